"""Addresses, domains and names: cleaned where certain, else refused or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import idna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from target_stairoids.mapping.names import (
    clean_name,
    company_name_from,
    names_of_person,
    person_name_from,
)
from target_stairoids.mapping.people_and_companies import (
    clean_domain,
    clean_email,
    company_domain_of,
    domain_from,
    email_from,
    is_domain,
    is_email,
    registrable_domain,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ZERO_WIDTH, BOM, NO_BREAK = "\u200b", "\ufeff", "\xa0"

#: Parts of addresses, hosts and URLs, and of their mistakes.
PARTS = "ada x.com acme.co.uk @ . .. - _ , ; | < > ( ) [ ] \" ' mailto: https:// www."
ODD = "/ :80 xn-- xn--a münchen.de \u3002 %40 ? # * \ud83d \u0301 1.2.3.4 \uff21"
SPACES = [" ", "\n", "\0", ZERO_WIDTH, BOM, NO_BREAK, "a" * 64]
pieces = st.sampled_from([*PARTS.split(), *ODD.split(), *SPACES])
names = st.sampled_from(["Dr.", "Ada", ",", "PhD", "&", "Inc.", "N/A", "0", "-", "III"])
odd_texts = st.lists(pieces, max_size=8).map("".join) | st.text()


def is_valid_domain(text: str) -> bool:
    """Return whether DNS and IDNA allow a host, by the library's own rules."""
    labels = text.split(".")
    is_plain = text.isascii() and text == text.lower() and len(labels) > 1
    names = [label for label in labels if label.startswith("xn--")]
    return (
        is_plain
        and all(idna.encode(idna.decode(name)).decode() == name for name in names)
        and all(label.strip("-") == label != "" for label in labels)
        and len(text) <= 253
        and max(map(len, labels)) <= 63
        and not labels[-1].isdecimal()
        and all(label.replace("-", "").isalnum() for label in labels)
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(odd_texts)
@example("ada@x.com" + ZERO_WIDTH)
@example("a" * 65 + "@x.com")
@example("https://" + "a." * 130 + "com")
def test_cleaned_values_are_valid_and_stay_as_they_are(text: str) -> None:
    domain, email, company = (
        clean_domain(text),
        clean_email(text),
        company_domain_of(text),
    )

    for host in filter(None, [domain, company, email and email.rpartition("@")[2]]):
        assert is_valid_domain(host)
    if email is not None:
        local = email.rpartition("@")[0]
        assert 0 < len(local) <= 64
        assert not {"", *' \t\n\0<>()[],;:"|@\\'} & {*local, *local.split(".")}
        assert clean_email(email) == email
    if domain is not None:
        assert clean_domain(domain) == domain
    if company is not None:
        assert company_domain_of(company) == company
    for found in (domain_from(text), email_from(text)):
        assert found is None or found.strip()
    is_domain(text)
    is_email(text)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(odd_texts | st.lists(names).map(" ".join))
@example('"ada;"')
@example('""ada""')
@example("ada" + ZERO_WIDTH + "\u0301")
def test_names_are_never_blank_and_stay_as_they_are(text: str) -> None:
    name = person_name_from(text)

    if name is not None:
        assert name.strip() == name != ""
        assert person_name_from(name) == name
    assert all(part is None or part.strip() for part in names_of_person(text))


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("acme.com", "acme.com"),
        ("  ACME.com \n", "acme.com"),
        ("WWW.Acme.COM", "acme.com"),
        ("https://www.acme.com/path?q=1#f", "acme.com"),
        ("HTTP://acme.com:8080", "acme.com"),
        ("//acme.com/x", "acme.com"),
        ("acme.com.", "acme.com"),
        ("acme.com,", "acme.com"),
        ("acme.com?utm=1", "acme.com"),
        ("https://user:pass@acme.com/x", "acme.com"),
        ("jane@Acme.com", "acme.com"),
        ("mailto:jane@acme.com?subject=Hi", "acme.com"),
        ("shop.acme.co.uk", "shop.acme.co.uk"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("[acme.com](https://acme.com)", "acme.com"),
        ("[Acme](https://www.acme.com/about)", "acme.com"),
        ("<https://acme.com>", "acme.com"),
        ("(acme.com)", "acme.com"),
        ("acme.com (main)", "acme.com"),
        ("https://https://acme.com", "acme.com"),
        ("http:/acme.com", "acme.com"),
        ("https//acme.com", "acme.com"),
        ("http:\\\\acme.com", "acme.com"),
        (f"{BOM}acme{ZERO_WIDTH}.com{NO_BREAK}", "acme.com"),
        ("https://acme.com/our team", "acme.com"),
        ("www.com", "www.com"),
        ("", None),
        ("acme.com, birch.com", None),
        ("acme.com / birch.com", None),
        ("https://acme.com/a, https://birch.com/b", None),
        ("ada@acme.com, bob@birch.com", None),
        ("acme.com|birch.com", None),
        ("[acme.com](https://birch.com)", None),
        ("*.acme.com", None),
        ("acme..com", None),
        (".acme.com", None),
        ("-acme.com", None),
        ("acme_shop.com", None),
        ("Acme Inc.", None),
        ("n.a.", None),
        ("n/a", None),
        ("localhost", None),
        ("10.0.0.1", None),
        ("[::1]:80", None),
        ("acme\x00.com", None),
        (".com", None),
        ("xn--a.com", None),
    ],
)
def test_domain_is_the_bare_host_or_none(value: str, domain: str | None) -> None:
    assert clean_domain(value) == domain


@pytest.mark.parametrize(
    ("value", "email"),
    [
        ("jane@acme.com", "jane@acme.com"),
        ("  Jane.Doe@ACME.com\n", "Jane.Doe@acme.com"),
        ("mailto:jane@Acme.com", "jane@acme.com"),
        ("MAILTO:jane%40acme.com?subject=Hi", "jane@acme.com"),
        ("jörg@MÜNCHEN.example", "jörg@xn--mnchen-3ya.example"),
        ("<ada@x.com>", "ada@x.com"),
        ('"ada@x.com"', "ada@x.com"),
        ("'ada@x.com'", "ada@x.com"),
        ("\u201cada@x.com\u201d", "ada@x.com"),
        ("ada@x.com;", "ada@x.com"),
        ("ada@x.com,", "ada@x.com"),
        ("ada@x.com.", "ada@x.com"),
        ("(ada@x.com)", "ada@x.com"),
        ("Ada <ada@x.com>", "ada@x.com"),
        ('"Lovelace, Ada" <ada@x.com>', "ada@x.com"),
        ("ada@x.com <ada@x.com>", "ada@x.com"),
        ("<mailto:ada@x.com>", "ada@x.com"),
        ("[Ada](mailto:ada@x.com)", "ada@x.com"),
        ("[ada@x.com](mailto:ada@x.com)", "ada@x.com"),
        ("ada@x.com (work)", "ada@x.com"),
        (f"{BOM}ada{ZERO_WIDTH}@x.com{NO_BREAK}", "ada@x.com"),
        ("ａｄａ＠ｘ．ｃｏｍ", "ada@x.com"),  # noqa: RUF001 - full-width, as Japanese keyboards write it
        ("o'neil+tag@x.com", "o'neil+tag@x.com"),
        ("", None),
        ("jane", None),
        ("jane@acme", None),
        ("@acme.com", None),
        ("jane@@acme.com", None),
        ("jane doe@acme.com", None),
        ("jane\x00@acme.com", None),
        ("jane@acme.com\x00\x00", "jane@acme.com"),
        ("a@acme.com, b@acme.com", None),
        ("a@acme.com;b@acme.com", None),
        ("bob@y.com <ada@x.com>", None),
        ("ada@x..com", None),
        (".ada@x.com", None),
        ("ada.@x.com", None),
        ("ada..b@x.com", None),
        ("ada@-x.com", None),
        ("ada@x-.com", None),
        ("ada@.x.com", None),
        ("ada@x.com|bob", None),
        ("bob|ada@x.com", None),
        ("ada@10.0.0.1", None),
        ("ada@x_y.com", None),
        ("ada at x.com", None),
        ("*@acme.com", None),
        ("%@acme.com", None),
        ("a***@acme.com", None),
        ("=ada@acme.com", None),
        ("//ada@acme.com", None),
        ("SMTP:ada@acme.com", "ada@acme.com"),
        ("E-mail: ada@acme.com", "ada@acme.com"),
        ("ada%40acme.com", None),
        ("%20ada@acme.com", None),
        ("ada%20b@acme.com", None),
        ("{user}@acme.com", None),
        ("{{first}}.{{last}}@acme.com", None),
        ("${user}@acme.com", None),
        ("%FNAME%@acme.com", None),
        ("'ada'@acme.com", None),
        ("`ada`@acme.com", None),
        ("~ada@acme.com", None),
        ("-ada@acme.com", None),
        ("+ada@acme.com", None),
        ("!ada@acme.com", None),
        ("ada_acme.com#EXT#@t.onmicrosoft.com", None),
        ("a@" + "a." * 500_000, None),
        ("\uff41da@acme.com", "ada@acme.com"),
        ("ada\xb2@acme.com", "ada\xb2@acme.com"),
        ("ada\u24d0@acme.com", None),
        ("ada\u2460@acme.com", "ada\u2460@acme.com"),
        ("ada\U0001f130@acme.com", None),
    ],
)
def test_email_is_cleaned_or_none(value: str, email: str | None) -> None:
    assert clean_email(value) == email


@pytest.mark.parametrize(
    ("clean", "text", "found"),
    [
        (clean_email, f"a{' ' * 300_000}b", None),
        (clean_domain, f"a{' ' * 300_000}b", None),
        (clean_name, "a<" * 300_000, "a<" * 300_000),
    ],
)
def test_very_long_text_is_read_in_linear_time(
    clean: Callable[[str], str | None], text: str, found: str | None
) -> None:
    assert clean(text) == found  # in minutes, were it quadratic


@pytest.mark.parametrize("value", [None, 7, True, [], {"email": "a@x.com"}])
def test_other_values_are_no_address_and_no_name(value: object) -> None:
    assert email_from(value) is domain_from(value) is company_name_from(value) is None


NO_VALUES = "N/A n.a. - -- null None #N/A (unknown) https:// mailto: NaN tbd"


@pytest.mark.parametrize("value", ["", "  ", *NO_VALUES.split()])
def test_word_for_no_value_is_left_out(value: str) -> None:
    assert email_from(value) is domain_from(value) is clean_name(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "none@none.com",
        "No.Email@acme.com",
        " <unknown@unknown.com>",
        "null@x.de",
        "Ada <none@none.com>",
        "mailto:noemail@a.com",
    ],
)
def test_address_that_stands_for_none_is_left_out(value: str) -> None:
    assert email_from(value) is company_domain_of(value) is None


@pytest.mark.parametrize("value", ["ada@x..com", "ada@x.com, bob@y.com"])
def test_mapped_value_that_cannot_be_read_is_kept_to_be_refused(value: str) -> None:
    assert email_from(value) == value
    assert domain_from(value) == value


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("mail.acme.co.uk", "acme.co.uk"),
        ("a.b.acme.com", "acme.com"),
        ("acme.com", "acme.com"),
        ("shop.acme.com.au", "acme.com.au"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("mail.acme.example", "acme.example"),
        ("acme.github.io", None),
        ("acme.myshopify.com", None),
        ("github.io", None),
        ("co.uk", None),
        ("com", None),
        ("acme.local", None),
        ("node.js", None),
    ],
)
def test_registrable_domain(host: str, domain: str | None) -> None:
    assert registrable_domain(host) == domain


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("https://app.acme.co.uk/login", "acme.co.uk"),
        ("ada@mail.acme.com", "acme.com"),
        ("google.com", "google.com"),
        ("zendesk.com", "zendesk.com"),
        ("acme.mybigcommerce.com", None),
        ("https://tmall.com/shop/acme", None),
        ("acme.wpengine.com", None),
        ("wpengine.com", "wpengine.com"),
        ("ada@docomo.ne.jp", None),
        ("ada@sfr.fr", None),
        ("https://www.linkedin.com/company/acme", None),
        ("https://de.linkedin.com/in/ada", None),
        ("https://pinterest.de/acme", None),
        ("ebay.com.au/str/acme", None),
        ("https://www.google.com/maps/place/Acme", None),
        ("google.de/search?q=acme", None),
        ("https://google.com/", "google.com"),
        ("ada@amazon.de", "amazon.de"),
        ("ada@messages.vrbo.com", None),
        ("instagram.com/acme", None),
        ("https://x.com/acme", None),
        ("https://m.facebook.com/acme", None),
        ("https://sites.google.com/view/acme", None),
        ("https://apps.apple.com/app/acme/id1", None),
        ("https://t.co/abc", None),
        ("bit.ly/acme", None),
        ("https://acme.zendesk.com", None),
        ("abc@privaterelay.appleid.com", None),
        ("1+ada@users.noreply.github.com", None),
        ("ada@gmail.com", None),
        ("ada@example.com", None),
        ("ada@acme.example", None),
        ("www.acme.example", "acme.example"),
        ("ada@hey.com", None),
        ("ada@acme.onmicrosoft.com", None),
        ("acme.wordpress.com", None),
        ("https://mailchi.mp/acme", None),
        ("pagesjaunes.fr", None),
        ("https://zoom.us/j/1", None),
        ("ada@zoom.us", "zoom.us"),
        ("acme.okta.com", None),
        ("okta.com", "okta.com"),
        ("ada@bbox.fr", None),
        ("acme.odoo.com", None),
        ("https://zalo.me/acme", None),
        ("https://www.figma.com/file/x", None),
        ("https://urldefense.com/v3/__https://acme.com__;!!", None),
        ("ada@gmx.fr", None),
        ("ada@hotmail.be", None),
        ("ada@ocn.ne.jp", None),
        ("ada@kabelmail.de", None),
        ("https://shopee.co.id/acme", None),
        ("shopee.co.id", "shopee.co.id"),
        ("https://www.zoominfo.com/c/acme/1", None),
        ("ada@zoominfo.com", "zoominfo.com"),
        ("acme.negocio.site", None),
        ("acme.con", None),
    ],
)
def test_company_behind_a_host_or_none(value: str, domain: str | None) -> None:
    assert company_domain_of(value) == domain


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("Ada", "Ada", None),
        ("Ada King Lovelace", "Ada", "King Lovelace"),
        ("Lovelace, Ada King", "Ada King", "Lovelace"),
        ("Ludwig van Beethoven", "Ludwig", "van Beethoven"),
        ("Bartje 't Hooft", "Bartje", "'t Hooft"),
        ("\U0001f389 Ada Lovelace", "Ada", "Lovelace"),
        ("Ada \u2764\ufe0f Lovelace \U0001f680", "Ada", "Lovelace"),
        ('Ada "Countess" Lovelace', "Ada", "Lovelace"),
        ("Ada 'The Ace' Lovelace", "Ada", "Lovelace"),
        ("Ada Lovelace - Acme", None, None),
        ("Ada Lovelace \u2013 CEO", None, None),
        ("Ada Lovelace | Acme", None, None),
        ("First Name", None, None),
        ("Do not contact", None, None),
        ("DELETE ME", None, None),
        ("{{ first_name }}", None, None),
        ("%FNAME% Lovelace", None, None),
        ("<b>Ada</b> Lovelace", None, None),
        ("Valued Customer", None, None),
        ('"Ada Lovelace"', "Ada", "Lovelace"),
        ("\u201eAda Lovelace\u201c", "Ada", "Lovelace"),
        ("{first_name}", None, None),
        ("${name}", None, None),
        ("WIN A PRIZE http://x.co", None, None),
        ("DO NOT USE Ada", None, None),
        ("Vorname Nachname", None, None),
        ("null null", None, None),
        ("Unknown Unknown", None, None),
        ("admin admin", None, None),
        ("Guest Customer", None, None),
        ("info", None, None),
        ("Accounts Payable", None, None),
        ("IT Support", None, None),
        ("Praxis Dr. Müller", None, None),
        ("Familie Müller", None, "Müller"),
        ("Dra. Ana Ruiz", "Ana", "Ruiz"),
        ("Eng. Ali Hassan", "Ali", "Hassan"),
        ("Ada D&#39;Angelo", "Ada", "D'Angelo"),
        ("Dr. Ada Lovelace", "Ada", "Lovelace"),
        ("Dr Ada Lovelace", "Ada", "Lovelace"),
        ("Dr.Ada Lovelace", "Ada", "Lovelace"),
        ("Prof. Dr. Ada Lovelace", "Ada", "Lovelace"),
        ("Herr Dipl.-Ing. Jan Müller", "Jan", "Müller"),
        ("Ada Lovelace, PhD", "Ada", "Lovelace"),
        ("Ada Lovelace, Ph. D.", "Ada", "Lovelace"),
        ("Ada Lovelace MBA, M.Sc.", "Ada", "Lovelace"),
        ("Lovelace, Ada, Ph.D.", "Ada", "Lovelace"),
        ("Lovelace, Dr. Ada", "Ada", "Lovelace"),
        ("Ada Lovelace Jr.", "Ada", "Lovelace"),
        ("Ada Lovelace III", "Ada", "Lovelace"),
        ("Ada Lovelace (Acme)", "Ada", "Lovelace"),
        ("Ms. Ada King-Noel, Countess of Lovelace", None, None),
        ("Mrs. Ada King, Countess", None, None),
        ("Ada Lovelace, Head of Sales", None, None),
        ("Ada Lovelace, FRSA", None, None),
        ("Ada Lovelace via Acme", None, None),
        ("ada.lovelace", None, None),
        ("ada99", None, None),
        ("GARCIA MARQUEZ, JOSE", "JOSE", "GARCIA MARQUEZ"),
        ("Mrs. Smith-Jones, née King", None, None),
        ("Ada Lovelace, 3rd Baroness", None, None),
        ("山田 太郎", None, None),
        ("Ada Lovelace 2", "Ada", "Lovelace 2"),
        ("Dr. von Neumann, John", "John", "von Neumann"),
        ("García Márquez, Gabriel", "Gabriel", "García Márquez"),
        ("Beethoven, Ludwig van", "Ludwig van", "Beethoven"),
        ("Captain Ada Lovelace", "Ada", "Lovelace"),
        ("Dr. Lovelace", None, "Lovelace"),
        ("Dhr. Jan de Vries", "Jan", "de Vries"),
        ("Mevrouw A. Jansen", "A.", "Jansen"),
        ("Sig.ra Anna Rossi", "Anna", "Rossi"),
        ("Ing. MUDr. Jan Novák", "Jan", "Novák"),
        ("Dr. rer. nat. Ada Lovelace", "Ada", "Lovelace"),
        ("Dipl. Ing. Ada Lovelace", "Ada", "Lovelace"),
        ("Assoc. Prof. Ada Lovelace", "Ada", "Lovelace"),
        ("Frau von der Leyen", None, "von der Leyen"),
        ("Dr. van Dijk", None, "van Dijk"),
        ("de Vries", None, "de Vries"),
        ("Van Morrison", "Van", "Morrison"),
        ("al smith", "al", "smith"),
        ("Vincent van Gogh", "Vincent", "van Gogh"),
        ("Ada Lovelace, Dipl.-Ing.", None, None),
        ("Lovelace, Dr.", None, "Lovelace"),
        ("Herr und Frau Müller", None, None),
        ("Jan en Anna de Vries", None, None),
        ("Ingrid Sig", "Ingrid", "Sig"),
        ("Sig Hansen", "Sig", "Hansen"),
        ("Mr Smith", None, "Smith"),
        ("Yo-Yo Ma", "Yo-Yo", "Ma"),
        ("Do Kim", "Do", "Kim"),
        ("Na Li", "Na", "Li"),
        ("Ing Wei", "Ing", "Wei"),
        ("Malcolm X", "Malcolm", "X"),
        (", Ada", "Ada", None),
        ("M. Jean Dupont", "Jean", "Dupont"),
        ("mgr inż. Jan Kowalski", "Jan", "Kowalski"),
        ("Г-н Иван Петров", "Иван", "Петров"),
        ("z.Hd. Anna Schmidt", "Anna", "Schmidt"),
        ("Attn: Bob Hill", "Bob", "Hill"),
        ("H.E. Kofi Annan", "Kofi", "Annan"),
        ("M.L. King", "M.L.", "King"),
        ("DUPONT Jean", None, None),
        ("LE PEN Jean", None, None),
        ("Jean DUPONT", "Jean", "DUPONT"),
        ("JJ Abrams", "JJ", "Abrams"),
        ("A.B.C. Smith", "A.B.C.", "Smith"),
        ("Иванов Иван Иванович", None, None),
        ("Иван Иванович Иванов", "Иван", "Иванов"),
        ("Анна Ивановна", "Анна", "Ивановна"),
        ("Zo\u00c3\u00ab Garc\u00c3\u00ada", "Zo\xeb", "Garc\xeda"),
        ("Zo\ufffd Meier", None, None),
        ("J*** D***", None, None),
        ("REDACTED", None, None),
        ("Ada k.A.", "Ada", "k.A."),
        ("Acme, Inc.", None, None),
        ("Acme GmbH", None, None),
        ("Birch & Co.", None, None),
        ("Mr. and Mrs. Smith", None, None),
        ("Ada & Bob Lovelace", None, None),
        ("N/A", None, None),
        ("ada@example.com", None, None),
        ("https://acme.com", None, None),
        ("42", None, None),
        ("Dr.", None, None),
        ("PhD", None, None),
        ("  ", None, None),
    ],
)  # fmt: skip
def test_full_name(text: str, first: str | None, last: str | None) -> None:
    assert names_of_person(text) == (first, last)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" Ada  Maria ", "Ada Maria"),
        ("Ada\0\0", "Ada"),
        ("Ada \ud83d", "Ada"),
        ("\x02Ada\x1fMaria", "Ada Maria"),
        ("Dr. Ada", "Ada"),
        ("Lovelace, PhD", "Lovelace"),
        ("Inc.", None),
        ("N/A", None),
        ("7", None),
        ("ada@example.com", None),
        *(
            (word, None)
            for word in (
                "k.A.",
                "N.N.",
                "test",
                "no-reply",
                "No Reply",
                "support",
                "Kontakt",
            )
        ),
        ('{"first": "Ada"}', None),
    ],
)
def test_first_or_last_name(text: str, name: str | None) -> None:
    assert person_name_from(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Acme, Inc.", "Acme, Inc."),
        ("Booking.com", "Booking.com"),
        ("3M", "3M"),
        ("1&1", "1&1"),
        ('"Acme, Inc."', "Acme, Inc."),
        ("42", None),
        ("9/11", None),
        ("1,042", None),
        ("9f1b2c3d-0000-4000-8000-000000000001", None),
        ("cus_9s6XKzkNRiz8i3", None),
        ("001D000000IRFmaIAH", None),
        ("https://acme.com", None),
        ("sales@acme.com", None),
        ("n/a", None),
        ("private", None),
        ("Acme &amp; Sons", "Acme & Sons"),
        ("Food&centre", "Food&centre"),
        ("Acme\u2122", "Acme\u2122"),
        ("H\u2082O \xbd", "H\u2082O \xbd"),
        ("\uff21\uff43\uff4d\uff45 e\u0301", "Acme \xe9"),
        ("*|COMPANY|*", None),
        ("GmbH", None),
        ("M\u00c3\u00bcller GmbH", "M\xfcller GmbH"),
        ("S\xe3o \xc2ngela", "S\xe3o \xc2ngela"),
        ("-- Please select --", None),
        ("Privatkunde", None),
        ("Company Name", None),
        ('{"name": "Acme"}', None),
        ("['Acme']", None),
    ],
)
def test_company_name(text: str, name: str | None) -> None:
    assert clean_name(text) == name
