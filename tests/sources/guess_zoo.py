"""Files as people have them, each with the parts of an event that a look at it must find, or must leave open."""

import gzip
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

ROWS = 400
_EVENTS = ("view", "view", "view", "cart", "purchase")


@dataclass(frozen=True)
class Animal:
    """`parts`: what the map must say; None: it must be left open. `settings`: how it must be read. `loads`: rows."""

    file: str
    content: bytes
    parts: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    loads: int = ROWS


def _rows(seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    moment = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)
    found = []
    for number in range(ROWS):
        moment += timedelta(minutes=draw.randint(1, 180), seconds=draw.randint(0, 59))
        found.append(
            {
                "n": number,
                "t": moment,
                "user": draw.randint(10_000, 10_060),
                "item": f"SKU-{draw.randint(1, 90):04}",
                "kind": draw.choice(_EVENTS),
                "price": draw.randint(100, 9_999) / 100,
                "qty": draw.randint(1, 6),
                "order": 500_000 + number // 3,
                "country": draw.choice(("GB", "DE", "FR")),
            }
        )
    return found


def _csv(header: str, line: str, delimiter: str = ",", end: str = "\n", seed: int = 1, **more: Any) -> str:
    """Lines of `line`, a format over a row; commas in it become `delimiter`."""
    rows = [line.format(**row, **{k: f(row) for k, f in more.items()}) for row in _rows(seed)]
    return end.join([header, *rows] if header else rows).replace(",", delimiter) + end


def _jsonl(line: Any) -> bytes:
    return "".join(json.dumps(line(row)) + "\n" for row in _rows(2)).encode()


def _early(row: dict[str, Any], pattern: str) -> str:
    """A moment of the first twelve days of a month, so that day and month may be taken for each other."""
    return datetime(2024, 1 + row["n"] % 12, 1 + row["n"] * 7 % 12, 8, 30, tzinfo=UTC).strftime(pattern)


def zoo() -> list[Animal]:
    usual = _csv(
        "customer_id,event_time,event_type,product_id,price", "{user},{t:%Y-%m-%d %H:%M:%S},{kind},{item},{price}"
    )
    usual_parts = {
        "user": "customer_id",
        "event_time": "event_time",
        "kind": "event_type",
        "item": "product_id",
        "value": "price",
    }
    dmy = "to_timestamp(Date, 'DD/MM/YYYY HH24:MI')"
    return [
        Animal("usual.csv", usual.encode(), usual_parts),
        Animal("usual.csv.gz", gzip.compress(usual.encode(), mtime=0), usual_parts),
        Animal("crlf.csv", usual.replace("\n", "\r\n").encode(), usual_parts),
        Animal("tabs.tsv", usual.replace(",", "\t").encode(), usual_parts),
        Animal("pipes.txt", usual.replace(",", "|").encode(), usual_parts, {"delimiter": "|"}),
        Animal("bom.csv", b"\xef\xbb\xbf" + usual.encode(), usual_parts),
        Animal("wide.csv", usual.encode("utf-16"), usual_parts, {"encoding": "utf-16"}),
        Animal(
            "western.csv",
            _csv("customer,date,event,item,city", "{user},{t:%Y-%m-%d},{kind},{item},Zürich").encode("cp1252"),
            {"user": "customer", "event_time": "date", "kind": "event", "item": "item"},
            {"encoding": "cp1252"},
        ),
        Animal(
            "orders_2024.csv",
            _csv(
                "OrderID,CustomerID,Date,SKU,Price,Quantity", "{order},{user}.0,{t:%d/%m/%Y %H:%M},{item},{price},{qty}"
            ).encode(),
            {
                "user": "CustomerID",
                "event_time": dmy,
                "kind": {"constant": "purchase"},
                "item": "SKU",
                "order_id": "OrderID",
                "value": "Quantity::numeric * Price::numeric",
                "quantity": "Quantity",
            },
        ),
        Animal(
            "american_orders.csv",
            _csv("customer,Date,sku,amount", "{user},{t:%m/%d/%Y %H:%M},{item},{price}").encode(),
            {
                "event_time": "to_timestamp(Date, 'MM/DD/YYYY HH24:MI')",
                "value": "amount",
                "kind": {"constant": "purchase"},
            },
        ),
        Animal(
            "clock12.csv",
            _csv("customer,when,event", "{user},{t:%m/%d/%Y %I:%M:%S %p},{kind}").encode(),
            {"event_time": "to_timestamp(\"when\", 'MM/DD/YYYY HH12:MI:SS AM')", "kind": "event"},
        ),
        Animal(
            "untold_dates.csv",
            _csv(
                "customer,Date,event", "{user},{when},{kind}", when=lambda row: _early(row, "%d/%m/%Y %H:%M")
            ).encode(),
            {"user": "customer", "event_time": None, "kind": "event"},
        ),
        Animal(
            "german.csv",
            _csv("Kundennummer;Datum;Artikel;Menge;Preis;Bestellnr", "{user};{t:%d.%m.%Y};{item};{qty};{price};{order}")
            .replace(".", ",")
            .encode(),
            {"user": "Kundennummer", "event_time": None},
            {"delimiter": ";"},
        ),
        Animal(
            "comma.csv",
            _csv(
                "Kundennummer;Datum;Artikel;Menge;Preis;Bestellnr",
                "{user};{t:%d.%m.%Y};{item};{qty};{comma};{order}",
                comma=lambda row: f"{row['price']:.2f}".replace(".", "§"),
            )
            .replace("§", ",")
            .encode(),
            {
                "user": "Kundennummer",
                "event_time": "to_timestamp(Datum, 'DD.MM.YYYY')",
                "item": "Artikel",
                "quantity": "Menge",
                "value": "Menge::numeric * replace(replace(Preis, '.', ''), ',', '.')::numeric",
                "order_id": "Bestellnr",
            },
            {"delimiter": ";"},
        ),
        Animal(
            "untold_numbers.csv",
            _csv(
                "customer;date;event;amount",
                "{user};{t:%Y-%m-%d};{kind};{thousands}",
                thousands=lambda row: f"1§{row['n']:03}",
            )
            .replace("§", ",")
            .encode(),
            {"user": "customer", "value": None},
            {"delimiter": ";"},
        ),
        Animal(
            "dollars.csv",
            _csv(
                "customer,ts,action,amount",
                '{user},{t:%Y-%m-%dT%H:%M:%SZ},{kind},"${thousands}"',
                thousands=lambda row: f"{row['price'] * 100:,.2f}",
            ).encode(),
            {"event_time": "ts", "value": "regexp_replace(amount, '[^0-9.-]', '', 'g')::numeric"},
        ),
        Animal(
            "epoch_s.csv",
            _csv(
                "user_id,item_id,timestamp,behavior_type",
                "{user},{n},{epoch},{kind}",
                epoch=lambda row: int(row["t"].timestamp()),
            ).encode(),
            {
                "user": "user_id",
                "item": "item_id",
                "event_time": 'to_timestamp("timestamp"::numeric)',
                "kind": "behavior_type",
            },
        ),
        Animal(
            "epoch_ms.jsonl",
            _jsonl(
                lambda r: {
                    "uid": f"u{r['user']}",
                    "ts": int(r["t"].timestamp() * 1000),
                    "event": {"type": r["kind"]},
                    "sku": r["item"],
                }
            ),
            {
                "user": "doc->>'uid'",
                "event_time": "to_timestamp((doc->>'ts')::numeric / 1000)",
                "kind": "doc->'event'->>'type'",
                "item": "doc->>'sku'",
            },
        ),
        Animal(
            "orders_with_lines.jsonl",
            _jsonl(
                lambda r: {
                    "order_id": r["order"] + r["n"],
                    "customer": {"id": r["user"], "email": f"{r['user']}@example.com"},
                    "created_at": r["t"].isoformat(),
                    "lines": [
                        {"sku": r["item"], "qty": 1, "unit_price": 2.5},
                        {"sku": "SKU-X", "qty": 2, "unit_price": 3},
                    ],
                }
            ),
            {
                "user": "doc->'customer'->>'id'",
                "event_time": "doc->>'created_at'",
                "kind": {"constant": "purchase"},
                "item": "record->>'sku'",
                "value": "(record->>'qty')::numeric * (record->>'unit_price')::numeric",
            },
            {"records": "lines"},
            loads=2 * ROWS,
        ),
        Animal(
            "day_and_time.csv",
            _csv("MemberNo,Date,Time,Event", "{user},{t:%d.%m.%Y},{t:%H:%M},{kind}").encode(),
            {
                "user": "MemberNo",
                "event_time": "to_timestamp(Date || ' ' || \"time\", 'DD.MM.YYYY HH24:MI')",
                "kind": "Event",
            },
        ),
        Animal(
            "no_header.csv",
            _csv("", "{user},{item},{t:%Y-%m-%d %H:%M:%S},{kind}").encode(),
            {"user": None, "event_time": "c3", "kind": "c4"},
            {"header": False},
        ),
        Animal(
            "ratings.csv",
            _csv(
                "",
                "{user}\t{movie}\t{stars}\t{epoch}",
                movie=lambda row: row["n"] * 7 % 97,
                stars=lambda row: 1 + row["n"] % 5,
                epoch=lambda row: int(row["t"].timestamp()),
            ).encode(),
            {"user": None},
            {"header": False},
        ),
        Animal(
            "two_users.csv",
            _csv(
                "customer_id,client_id,date,event",
                "{user},{other},{t:%Y-%m-%d},{kind}",
                other=lambda row: row["n"] * 7 % 61,
            ).encode(),
            {"user": None, "event_time": "date"},
        ),
        Animal(
            "one_user_twice.csv",
            _csv("customer_id,customer_number,date,event", "{user},K{user},{t:%Y-%m-%d},{kind}").encode(),
            {"user": "customer_id"},
        ),
        Animal(
            "no_user.csv",
            _csv("date,event,country,sku", "{t:%Y-%m-%d},{kind},{country},{item}").encode(),
            {"user": None, "kind": "event", "item": "sku"},
        ),
        Animal(
            "no_kind.csv",
            _csv("user,date,price", "{user},{t:%Y-%m-%d},{price}").encode(),
            {"user": "user", "kind": None, "value": "price"},
        ),
        Animal(
            "pageviews.csv",
            _csv("visitor_id,viewed_at,url,dwell_ms", "v{user},{t:%Y-%m-%d %H:%M:%S},/p/{item},{qty}500").encode(),
            {
                "user": "visitor_id",
                "kind": {"constant": "view"},
                "item": "url",
                "duration_s": "dwell_ms::numeric / 1000",
            },
        ),
        Animal(
            "nulls.csv",
            _csv(
                "user_id,event_time,event_type,item,amount",
                "{who},{t:%Y-%m-%d},{kind},{item},{much}",
                who=lambda row: row["user"] if row["n"] % 9 else "NULL",
                much=lambda row: row["price"] if row["n"] % 2 else "NA",
            ).encode(),
            {"user": "nullif(user_id, 'NULL')", "value": "nullif(amount, 'NA')"},
            loads=ROWS - 45,
        ),
        Animal(
            "cancelled.csv",
            _csv(
                "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID",
                "{number},{item},{signed},{t:%m/%d/%y %H:%M},{price},{user}",
                number=lambda row: f"C{row['order']}" if row["n"] % 20 == 0 else row["order"],
                signed=lambda row: -row["qty"] if row["n"] % 20 == 0 else row["qty"],
            ).encode(),
            {
                "event_time": "to_timestamp(InvoiceDate, 'MM/DD/YY HH24:MI')",
                "order_id": "InvoiceNo",
                "kind": [
                    {"cancel": "InvoiceNo like 'C%'"},
                    {"purchase": "Quantity::numeric * UnitPrice::numeric > 0"},
                    {"adjustment": "true"},
                ],
            },
        ),
        Animal(
            "log.csv",
            _csv("client_ip,user,time,action", "10.0.0.1,u{user},[{t:%d/%b/%Y:%H:%M:%S +0000}],{kind}").encode(),
            {
                "user": "user",
                "event_time": "to_timestamp(\"time\", '[DD/Mon/YYYY:HH24:MI:SS TZHTZM')",
                "kind": "action",
            },
        ),
        Animal(
            "apostrophes.csv",
            _csv("'user_id','date','event','name'", "'{user}','{t:%Y-%m-%d}','{kind}','a, b'").encode(),
            {"user": "user_id", "event_time": "date", "kind": "event"},
            {"quote": "'"},
        ),
        Animal(
            "inches.csv",
            _csv("user_id;date;event;item", '{user};{t:%Y-%m-%d};{kind};"5 inch {item}').encode(),
            {"user": "user_id", "item": "item"},
            {"delimiter": ";", "quote": None},
        ),
        Animal(
            "events.csv",
            _csv(
                "event_id,user_id,event,occurred_at,received_at",
                "e{n},{user},{kind},{t:%Y-%m-%dT%H:%M:%S+00:00},{later:%Y-%m-%dT%H:%M:%S+00:00}",
                later=lambda row: row["t"] + timedelta(hours=3),
            ).encode(),
            {"event_time": "occurred_at", "ingested_at": "received_at", "keys": ["event_id"], "kind": "event"},
        ),
        Animal(
            "some_with_items.jsonl",
            _jsonl(
                lambda r: (
                    {"user_id": r["user"], "ts": r["t"].isoformat(), "type": r["kind"]}
                    | ({"items": [{"sku": r["item"], "price": 2}]} if r["kind"] == "purchase" else {})
                )
            ),
            {"user": "doc->>'user_id'", "event_time": "doc->>'ts'", "kind": "doc->>'type'", "item": None},
        ),
        # Logs that many people have, as they are published.
        Animal(
            "rees46.csv",
            _csv(
                "event_time,event_type,product_id,category_code,brand,price,user_id,user_session",
                "{t:%Y-%m-%d %H:%M:%S} UTC,{kind},{item},a.b,,{price},{user},s{order}",
            ).encode(),
            {
                "user": "user_id",
                "event_time": "event_time",
                "kind": "event_type",
                "item": "product_id",
                "value": "price",
            },
        ),
        Animal(
            "transactions_train.csv",
            _csv(
                "t_dat,customer_id,article_id,price,sales_channel_id", "{t:%Y-%m-%d},c{user},{item},{price},2"
            ).encode(),
            {"user": "customer_id", "event_time": "t_dat", "item": "article_id", "kind": {"constant": "purchase"}},
        ),
        Animal(
            "ratings_small.csv",
            _csv(
                "userId,movieId,rating,timestamp",
                "{user},{n},{qty},{epoch}",
                epoch=lambda row: int(row["t"].timestamp()),
            ).encode(),
            {"user": "userId", "item": "movieId", "value": "rating", "kind": {"constant": "rating"}},
        ),
        Animal(
            "UserBehavior.csv",
            _csv("", "{user},{n},{order},{kind},{epoch}", epoch=lambda row: int(row["t"].timestamp())).encode(),
            {"user": None, "event_time": "to_timestamp(c5::numeric)", "kind": "c4"},
            {"header": False},
        ),
        Animal(
            "shopify.csv",
            _csv(
                "Name,Email,Financial Status,Paid at,Subtotal,Total,Lineitem sku",
                "#{order},{user}@example.org,paid,{t:%Y-%m-%d %H:%M:%S} +0100,{price},{qty},{item}",
            ).encode(),
            {"user": "Email", "event_time": "Paid at", "value": None, "item": "Lineitem sku", "kind": None},
        ),
        Animal(
            "pos.csv",
            _csv(
                "Bon-Nr;Kartennr;Datum;Uhrzeit;EAN;Betrag",
                "{order};{user};{t:%d.%m.%Y};{t:%H:%M};{item};{comma}",
                comma=lambda row: f"{row['price']:.2f}".replace(".", "§"),
            )
            .replace("§", ",")
            .encode(),
            {"user": None, "event_time": "to_timestamp(Datum || ' ' || Uhrzeit, 'DD.MM.YYYY HH24:MI')", "item": "EAN"},
            {"delimiter": ";"},
        ),
    ]
