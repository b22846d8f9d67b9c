"""A load map's file: what is accepted, and one clear line for what is not."""

from pathlib import Path

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import visitors

from tests.sources.loading import make_map
from ubp_sql.errors import MapError
from ubp_sql.expressions import check_text, column_names, words
from ubp_sql.sources.load_map import MOST_CHARACTERS, SHIPPED, Constant, LoadMap

HEAD = "source: s\nformat: csv\nuser: u\nevent_time: t\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_map_is_named_without_a_path(name: str) -> None:
    assert LoadMap.from_file(name).source == name
    assert LoadMap.from_file(name).shipped


def test_the_example_of_the_docs_is_a_map(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "load-map.md").read_text(encoding="utf-8")
    path = tmp_path / "m.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert LoadMap.from_file(path).source == "shop_export"
    for field in LoadMap.model_fields:
        assert f"`{field}`" in page


def test_kind_takes_three_forms(tmp_path: Path) -> None:
    assert make_map(tmp_path, kind="upper(what)").kind == "upper(what)"
    assert make_map(tmp_path, kind={"constant": "view"}).kind == Constant(constant="view")
    assert make_map(tmp_path, kind=[{"a": "x = 'y'"}, {"b": True}]).rules == [("a", "x = 'y'"), ("b", "true")]


def test_numbers_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + "kind: k\nquantity: 1\nvalue: 2.5\n").encode())
    load_map = LoadMap.from_file(path)
    assert (load_map.quantity, load_map.value) == ("1", "2.5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no fields"),
        ("- a\n- b\n", "holds no fields"),
        ("a: [1\n", "not YAML"),
        ("a: b: c\n", "line 1: not YAML"),
        ("&a [*a]", "line 1: not YAML: anchors and aliases are not read"),
        ("&a {b: *a}", "line 1: not YAML: anchors and aliases are not read"),
        ("[" * 3000, "not YAML: nested too deeply"),
        ("source: 1" + ":59" * 20_000, "line 1: not YAML: a number of 60001 characters"),
        ("source: 1" + ":59" * 20_000 + ".5", "line 1: not YAML: a number of 60003 characters"),
        ("source: 0x" + "f" * 20_000, "line 1: not YAML: a number of 20002 characters"),
        ("#" * (MOST_CHARACTERS + 1), "65,537 characters, at most 65,536 are read"),
        (HEAD, "field kind is missing"),
        (HEAD + "kind: k\nusr: x\n", "line 6: unknown field usr, did you mean user?"),
        (HEAD + "kind: k\nuser: x\n", "line 6: user is given twice"),
        (HEAD + "kind: k; drop table x\n", "line 5: kind: ; is not allowed"),
        (HEAD + "kind: {constant: a, other: b}\n", "line 5: kind"),
        (HEAD + "kind: [a]\n", "line 5: kind"),
        (HEAD + "kind: []\n", "line 5: kind"),
        (HEAD + "kind:\n- {a: 'true', b: 'true'}\n", "a rule is one line"),
        (HEAD + "kind: k\nvalue: (select 1)\n", "line 6: value: a query is not an expression"),
        (HEAD + "kind: k\nvalue: ''\n", "line 6: value: the expression is empty"),
        (HEAD + "kind: k\nattributes:\n  a: x\n  b: x --\n", "line 8: attributes.b: comments are not allowed"),
        (HEAD + "kind: k\nkeys: [a, 'b)']\n", "line 6: keys.1: ) closes nothing"),
        (HEAD + "kind: k\ntime_zone: Mars/Base\n", "no time zone is called 'Mars/Base'"),
        (HEAD + "kind: k\ntime_zone: ../../etc/passwd\n", "no time zone is called"),
        (HEAD + "kind: k\nencoding: klingon\n", "no text encoding is called 'klingon'"),
        (HEAD + "kind: k\nencoding: base64\n", "no text encoding is called 'base64'"),
        (HEAD + "kind: k\ndelimiter: ab\n", "one ASCII character is needed"),
        (HEAD + "kind: k\nquote: ','\n", "must differ from the delimiter"),
        (HEAD + "kind: k\nrecords: events\n", "only a jsonl file"),
        (HEAD.replace("csv", "jsonl") + "kind: k\nrecords: 'a,b'\n", "line 6: records"),
        (HEAD + "kind: k\ningested: now\ningested_at: t\n", "not both"),
        (HEAD + "kind: k\nattributes: {order_id: x}\n", "order_id has a field of its own"),
        (HEAD + "kind: k\nuser_keys: number\n", "line 6: user_keys"),
        (HEAD.replace("source: s", "source: direct") + "kind: k\n", "'direct' names plain INSERTs"),
        (HEAD.replace("csv", "xlsx") + "kind: k\n", "line 2: format"),
        (HEAD.replace("source: s", "source: [s]") + "kind: k\n", "line 1: source"),
    ],
)
def test_a_wrong_map_is_one_line_with_a_way_out(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MapError) as caught:
        LoadMap.from_file(path)
    assert expected in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            HEAD.replace("source", "sorce") + "kind: k\n",
            "line 1: unknown field sorce, did you mean source?",
            "fields: ",
        ),
        (HEAD + "kind: k\nqqq: 1\n", "line 6: unknown field qqq", "fields: "),
        (HEAD + "kind: k\ntime_zone: Mars/Base\n", "no time zone is called 'Mars/Base'", "write a name such as Europe"),
        (HEAD + "kind: k\nencoding: klingon\n", "no text encoding is called 'klingon'", "write a name such as utf-8"),
        (HEAD + "kind: k\nvalue: (a\n", "( is not closed", "see docs/load-map.md"),
    ],
)
def test_the_message_and_the_hint_are_about_the_mistake(tmp_path: Path, text: str, message: str, hint: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MapError) as caught:
        LoadMap.from_file(path)
    assert caught.value.message.endswith(message)
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize("path", ["nothing_of_this_name", "/does/not/exist.yaml", "/tmp"])  # noqa: S108
def test_a_missing_map_names_those_that_ship(path: str) -> None:
    with pytest.raises(MapError) as caught:
        LoadMap.from_file(path)
    assert "online_retail" in (caught.value.hint or "")


def test_a_map_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(MapError, match="cannot be read"):
        LoadMap.from_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "a", "Quantity::numeric * UnitPrice::numeric", "doc->>'session'", "x like 'C%'", "'it''s; -- fine'",
        '"select"', '"odd "" name"', "extract(hour from at)", "a is not null and (b or c)", "x[1]", "E'\\t' || a",
        "at::timestamp with time zone", "split_part(a, ';', 1)", "'/* text */'", "a @> '{1}'", "U&'\\0041'",
    ],
)  # fmt: skip
def test_expressions(text: str) -> None:
    assert check_text(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a; drop table x", "a) from x; --", "(a", "a)", "[a)", "'open", '"open', "a -- b", "a /* b", "$1",
        "$$a$$", "(select 1)", "(SELECT 1)", "(values (1))", "(table pg_authid)", "exists (select)",
        "a = any(select b)",        "E'a'\n'\\'", "E'\\'", "a\0b",
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    assert check_text(text)


class _SubSelects(visitors.Visitor):
    found = False

    def visit_SubLink(self, *_: object) -> None:
        self.found = True


PIECES = st.sampled_from(
    [
        "a", "1", "'", '"', "''", "(", ")", "[", "]", ";", "--", "/*", "*/", "\\", "E'", "e'", "U&'", "B'", "X'", "N'",
        "$$", "$a$", "$1", ",", " ", "\n", "select", "values", "table", "with", "from", "or", "||", "=", "::text",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=12))
def test_whatever_passes_stays_inside_its_parentheses(text: str) -> None:
    """PostgreSQL's own parser is the oracle: one statement, one value, no query inside, or no SQL at all."""
    if check_text(text) is not None:
        return
    try:
        parsed = pglast.parse_sql(f"select ({text}), 'mark'")
    except (pglast.parser.ParseError, ValueError, UnicodeEncodeError):
        return
    assert len(parsed) == 1
    assert len(parsed[0].stmt.targetList) == 2
    assert parsed[0].stmt.fromClause is None
    seen = _SubSelects()
    seen(parsed)
    assert not seen.found


def test_words_are_what_an_expression_may_refer_to() -> None:
    assert words("Quantity::numeric * \"Unit Price\" || 'Text' || a1") == {"quantity", "numeric", "Unit Price", "a1"}


def test_column_names() -> None:
    header = ["InvoiceNo", " Customer ID ", "customer - id", "", "2nd", "Größe", "ÄB", "x" * 80, "x" * 80]
    assert column_names(header) == [
        "invoiceno", "customer_id", "customer_id_2", "column_4", "_2nd", "größe", "Äb", "x" * 55, "x" * 55 + "_2",
    ]  # fmt: skip
    assert column_names(["ctid"], ["ctid"]) == ["ctid_2"]


@given(st.lists(st.text(), max_size=8))
def test_column_names_are_unique_and_fit(header: list[str]) -> None:
    names = column_names(header)
    assert len(set(names)) == len(header)
    assert all(0 < len(name.encode()) <= 63 for name in names)
