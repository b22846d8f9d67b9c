"""What a column's name says: how much it sounds like the user, the time, the item, ... of an event."""

import re


def word_set(text: str) -> set[str]:
    return set(text.split())


def _words(parts: dict[str, dict[float, str]]) -> dict[str, dict[str, float]]:
    """Score by word, from the words of each score."""
    return {
        part: {word.strip("'"): score for score, words in scores.items() for word in words.split()}
        for part, scores in parts.items()
    }


# How well a word names the part, by itself or with a word such as `id` behind it.
_NOUNS = _words(
    {
        "user": {
            0.95: "user customer kunde kunden benutzer nutzer cliente usuario utilisateur",
            0.9: "client subscriber buyer shopper player cust usr",
            0.85: "member person account uid listener viewer",
            0.8: "visitor reader household msno",
            0.7: "guest contact profile",
            0.6: "cookie device email mail",
            0.55: "session",
        },
        "item": {
            0.95: "item product sku article asin movie song video isbn artikel produkt producto produit articulo",
            0.9: "stock aid track book listing course game upc ean goods prod",
            0.85: "content material merchandise restaurant hotel venue",
            0.8: "offer",
            0.75: "variant",
            0.7: "page",
            0.6: "url",
            0.5: "title",
        },
        "order_id": {
            0.95: "order invoice bestellung bestell rechnung rechnungs commande facture pedido factura",
            0.9: "basket transaction receipt bon booking",
            0.85: "bill",
            0.8: "checkout ticket trans",
            0.6: "cart",
        },
        "event_key": {
            0.9: "event",
            0.8: "message hit row record log entry '' insert",
            0.7: "line click",
            0.6: "transaction",
        },
    }
)
# Names of what is no key: the whole name, in words joined by _.
_NAMES = _words(
    {
        "kind": {
            0.95: """
                event_type event_name event_kind kind action action_type action_name activity_type behavior_type
                behaviour_type interaction_type ereignis aktion evento accion""",
            0.9: "activity behavior behaviour interaction verb event_action",
            0.85: "event",
            0.8: "operation",
            0.5: "type",
        },
        "event_time": {
            1.0: "event_time event_timestamp occurred_at happened_at",
            0.95: """
                timestamp ts datetime date_time event_date invoice_date order_date purchase_date transaction_date
                trans_date sale_date ordered_at purchased_at order_time placed_at viewed_at clicked_at bestelldatum
                rechnungsdatum zeitstempel t_dat order_purchase_timestamp transaction_time""",
            0.9: "time date datum fecha paid_at",
            0.85: "created_at at when zeit",
            0.8: "created day",
            0.75: "server_time",
            0.7: "client_time t",
            0.6: "heure",
        },
        "ingested_at": {
            0.95: "ingested_at ingestion_time ingest_time",
            0.9: "received_at loaded_at arrived_at collector_tstamp ingested",
            0.85: "inserted_at etl_tstamp",
            0.8: "recorded_at collected_at received",
            0.75: "processed_at",
            0.7: "load_time",
        },
        "total": {
            0.95: """
                revenue amount_paid total_price total_amount line_total sales_amount gmv event_value line_amount
                item_total betrag umsatz gesamtpreis montant importe""",
            0.9: """
                amount total value spend net_amount turnover order_value net_total order_total invoice_total
                invoice_amount grand_total purchase_amount""",
            0.85: "sales paid gross_amount subtotal summe payment_value",
            0.75: "payment rating",
            0.7: "sale stars",
            0.5: "score",
        },
        "unit": {
            0.95: """
                unit_price price_per_unit price_each einzelpreis stueckpreis stückpreis prix_unitaire
                precio_unitario""",
            0.9: "price item_price product_price selling_price preis prix precio",
            0.85: "sales_price sale_price",
            0.6: "list_price",
        },
        "quantity": {
            0.95: "quantity qty units_sold menge quantite quantité cantidad order_quantity quantity_ordered",
            0.9: "units pieces amount_of_items unit_count anzahl",
            0.85: "stueck stück",
            0.8: "num_items",
            0.75: "item_count",
            0.6: "count",
        },
        "duration_s": {
            0.95: """
                duration dwell dwell_time time_spent watch_time playtime time_on_page listen_time view_duration
                call_duration dauer duree durée""",
            0.9: "elapsed play_time msplayed",
            0.85: "session_duration",
            0.8: "seconds",
            0.7: "played",
        },
    }
)
_KEY_WORDS = word_set(
    """
    code fk guid hash id identifier ids key no nr num number numero nummer pk ref uuid
    """
)
_PERSONAL = word_set(
    """
    email mail phone mobile tel telephone fax firstname lastname surname forename fullname street address zip postcode
    ip birthday dob ssn iban passport vorname nachname strasse plz geburtstag
    """
)
_NOT_THE_EVENT = word_set(
    """
    approved birth birthday closed deleted deliver delivered delivery dob due end ended estimated expired expires
    expiry last limit modified next published registered registration release released ship shipped shipping signed
    signup until update updated valid
    """
)
_SELF_KEYS = {"sku", "asin", "isbn", "ean", "upc"}  # keys by themselves, also behind another word
_MOMENTS = word_set("time timestamp tstamp ts at on date datetime datum")
_ZONES = {"utc", "gmt"}
_FILLERS = {"anon", "anonymous", "external", "full", "internal", "my", "the", "unique"}
_UNITS = _words(
    {
        "": {
            0.001: "ms msec msecs millis milliseconds",
            1.0: "s sec secs seconds sek",
            60.0: "min mins minutes minuten",
            3600.0: "h hours",
        }
    }
)[""]
_EVENT_WORDS = word_set(
    """
    achat add addtocart bestellung booking bookmark bounce buy cancel cart checkin checkout click close comment
    compra conversion convert downgrade download fav favorite favourite follow hover impression install kauf like
    listen login logout open order page pageview paid pause pay payment play purchase pv rate read refund register
    remove renew renewal rent return review sale save screen scroll search sent session share shipment signup
    skip start stop submit subscribe swipe tap transaction trial unsubscribe upgrade view visit watch wishlist
    """
)
# Words of a file's or a table's name, by the kind that all of its rows are then.
_KINDS = {
    "purchase": "order purchase sale transaction invoice retail pos receipt payment bestellung",
    "rating": "rating",
    "review": "review",
    "view": "view pageview",
    "impression": "impression",
    "click": "click",
    "login": "login",
    "search": "search",
    "play": "play listen",
    "visit": "visit",
    "refund": "refund",
    "return": "return",
    "booking": "booking",
    "cart": "cart",
    "checkin": "checkin",
    "download": "download",
}
_SUBJECTS = {word: kind for kind, words in _KINDS.items() for word in words.split()}


def tokens(name: str) -> list[str]:
    """`CustomerID`, `customer_id` and `Customer-Id` are customer, id; `customerid` too."""
    spaced = re.sub(r"([a-z\d])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", name))
    found: list[str] = []
    for token in re.findall(r"[^\W_]+", spaced.lower()):
        for ending in ("id", "no", "nr", "nummer", "number", "key", "code"):
            stem = token.removesuffix(ending)
            if stem != token and any(stem in nouns for nouns in _NOUNS.values() if stem):
                found += [stem, ending]
                break
        else:
            found.append(token)
    return found


def score(part: str, name: str) -> float:
    """How well `name` names the part, from 0 to 1."""
    words = [word for word in tokens(name) if word not in _FILLERS] or tokens(name)
    if not words:
        return 0.0
    if part in _NOUNS:
        stems = [word for word in words if word not in _KEY_WORDS]
        keyed = len(stems) < len(words)
        if part == "event_key":
            return _NOUNS[part].get("_".join(stems), 0.0) if keyed else 0.0
        stems = [word if word in _NOUNS[part] else word.removesuffix("s") for word in stems]
        known = [_NOUNS[part][word] for word in stems if word in _NOUNS[part]]
        if not known:
            return 0.0
        if len(stems) == 1:
            return known[0] + (0.05 if keyed else -0.05)
        # `billing customer id` is one of two, `customer country` is none
        last = stems[-1]
        return max(known) - 0.25 if last in _NOUNS[part] and (keyed or last in _SELF_KEYS) else 0.0
    if part == "duration_s":
        words = [word for word in words if word not in _UNITS] or words
    if part == "event_time":
        words = [word for word in words if word not in _ZONES] or words
        rest = 0.6 if words[-1] in _MOMENTS and not _NOT_THE_EVENT.intersection(words) else 0.0
        return _NAMES[part].get("_".join(words), rest)
    return _NAMES[part].get("_".join(words), 0.0)


def beside_the_event(name: str) -> bool:
    """Is it a moment before or after the event: of birth, of delivery, of the last change?"""
    return not _NOT_THE_EVENT.isdisjoint(tokens(name))


def personal(words: list[str]) -> bool:
    """Does a column of this name tell who somebody is? Such is copied only where a person asks for it."""
    return not _PERSONAL.isdisjoint(words)


def seconds_of(name: str) -> float | None:
    """How many seconds the unit in a duration's name has; None where it names none."""
    return next((_UNITS[word] for word in reversed(tokens(name)) if word in _UNITS), None)


def event_like(value: str) -> bool:
    """Is it a word for something that a user does, such as `add_to_cart`, `clicks` or `Viewed product`?"""
    return any(_stem(word) in _EVENT_WORDS for word in tokens(value)[:4])


def subject(name: str) -> str | None:
    """The kind that every row of a file or table of this name is, where the name says one."""
    found = {_SUBJECTS[_stem(word)] for word in tokens(name) if _stem(word) in _SUBJECTS}
    return found.pop() if len(found) == 1 else None


def _stem(word: str) -> str:
    if word in _EVENT_WORDS or word in _SUBJECTS:
        return word
    for ending in ("ing", "ed", "s", "es"):
        for stem in (word.removesuffix(ending), word.removesuffix(ending) + "e"):
            if stem != word and (stem in _EVENT_WORDS or stem in _SUBJECTS):
                return stem
    return word
