"""Inference of templates from the names of columns."""

from __future__ import annotations

import itertools
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.expressions.template import compile_template
from target_stairoids.mapping.inference import inferred_templates
from target_stairoids.mapping.schema import StreamSchema
from tests.support.mapping_builders import a_map, a_shape, items_of
from tests.support.paths import DATA

TEXT = {"type": ["null", "string"]}


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, TEXT)


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": ["null", "object"], "properties": properties}


def inferred(properties: dict[str, Any], name: str = "rows") -> dict[str, list[str]]:
    """Return signal field -> the places it is read from, in order.

    The places of the address, which always follow those of the domain, are left out.
    """
    shape = StreamSchema(name=name, properties=properties, key_properties=())
    found = {}
    for field, origin in inferred_templates(shape).items():
        places = found[field] = re.findall(r"`(.*?)`", origin.why)
        paths = compile_template(origin.template, field).paths
        assert {*places} <= {".".join(map(str, path)) for path in paths}
    emails = found.get("contact.email", [])
    domains = found.pop("account.domain", [])
    assert not emails or domains[-len(emails) :] == emails
    rest = domains[: len(domains) - len(emails)]
    return found | ({"account.domain": rest} if rest else {})


def schemas_in(file: str) -> dict[str, dict[str, Any]]:
    messages = map(json.loads, (DATA / file).read_text(encoding="utf-8").splitlines())
    return {
        message["stream"]: message["schema"]["properties"]
        for message in messages
        if message["type"] == "SCHEMA"
    }


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("contact.email", "email EMAIL E-Mail work_email userEmail contact_email"),
        ("contact.first_name", "firstname FirstName given_name"),
        ("contact.last_name", "last_name surname"),
        ("account.domain", "domain company_domain website websiteURL"),
        ("account.name", "company company_name organization organisation_name"),
        ("occurred_at", "occurred_at eventTime"),
    ],
)
def test_name_of_a_column_decides_its_field(field: str, names: str) -> None:
    found = [inferred(texts(name)) for name in names.split()]

    assert found == [{field: [name]} for name in names.split()]


@pytest.mark.parametrize(
    "name",
    [
        *("mail", "Mail", "Email__c", "Work_Email__c", "E-mail 1 - Value"),
        *("E-mail 2 Address", "e_mail_1_value", "buyer_email", "Buyer__Email"),
        *("requester_email", "E-Mail-Adresse", "Courriel", "Correo electrónico"),
        *("SuppliedEmail", "secondary_email", "email1"),
    ],
)
def test_address_of_an_export_is_found(name: str) -> None:
    assert inferred(texts(name)) == {"contact.email": [name]}


def test_buyer_is_a_person_whose_columns_are_not_mixed() -> None:
    columns = texts("email", "first_name")
    properties = {"buyer": an_object(**columns), "user": an_object(**columns)}

    assert inferred(properties) == {
        "contact.email": ["buyer.email"],
        "contact.first_name": ["buyer.first_name"],
    }
    assert inferred(texts("buyer.email")) == {"contact.email": ["buyer.email"]}
    assert inferred(texts("buyer_email", "user_first_name", "user_email")) == {
        "contact.email": ["buyer_email"]
    }


@pytest.mark.parametrize(
    ("best", "other"),
    list(itertools.combinations(("customer", "buyer", "payer", "guest"), 2)),
)
def test_best_of_several_addresses_does_not_depend_on_the_process(
    best: str, other: str
) -> None:
    """The order of a set depends on the hash seed of the process."""
    found = inferred(texts(f"{other}_email", f"{best}_email"))
    inner = inferred({name: an_object(email=TEXT) for name in (other, best)})

    assert found["contact.email"] == [f"{best}_email", f"{other}_email"]
    assert inner["contact.email"] == [f"{best}.email", f"{other}.email"]


@pytest.mark.parametrize("name", ["mail", "email"])
def test_flag_is_no_address(name: str) -> None:
    assert inferred({name: {"type": ["null", "boolean"]}}) == {}


def test_columns_of_other_languages_are_found() -> None:
    columns = texts("E-Mail-Adresse", "Vorname", "Nachname", "Firma")

    assert inferred(columns) == {
        "contact.email": ["E-Mail-Adresse"],
        "contact.first_name": ["Vorname"],
        "contact.last_name": ["Nachname"],
        "account.name": ["Firma"],
    }


def test_account_of_a_stripe_invoice_is_the_merchants_own() -> None:
    columns = texts("account_country", "account_name", "customer_email")

    assert "account.name" not in inferred(columns)
    assert "account.name" in inferred(texts("account_name", "customer_email"))


def test_corrected_time_of_segment_comes_before_the_clients() -> None:
    columns = texts("email", "original_timestamp", "timestamp")

    assert inferred(columns)["occurred_at"] == ["timestamp", "original_timestamp"]


def test_object_of_a_time_is_the_time_of_an_event() -> None:
    time = an_object(_seconds={"type": "integer"}, _nanoseconds={"type": "integer"})
    other = an_object(_seconds={"type": "integer"}, zone=TEXT)

    assert inferred({"event_time": time}) == {"occurred_at": ["event_time"]}
    assert inferred({"event_time": other}) == {}


def test_full_name_fills_empty_names_of_an_object() -> None:
    names = ("email", "first_name", "last_name", "name")
    properties = {"invitee": an_object(**texts(*names))}
    record = {"invitee": {"email": "ada@acme.com", "name": "Ada Lovelace"}}

    assert value_of("contact.first_name", properties, record) == "Ada"


def test_names_are_compared_without_spaces() -> None:
    assert inferred(texts("Email Address")) == {"contact.email": ["Email Address"]}


@pytest.mark.parametrize(
    "names",
    [
        "company_email account_email organization_email company_first_name",
        "billing_email_sent email_opt_in emails email_domain name username url id",
        "updated_at updatedAt modified_at last_modified created_at ts timestamp",
        "_sdc_last_modified subdomain _",
    ],
)
def test_other_names_fill_no_field(names: str) -> None:
    assert inferred(texts(*names.split(), "")) == {}


def test_most_specific_name_comes_first_in_any_order_of_columns() -> None:
    properties = texts("email", "website", "work_email", "company_domain")

    assert inferred(properties) == {
        "contact.email": ["work_email", "email"],
        "account.domain": ["company_domain", "website"],
    }


@pytest.mark.parametrize("name", ["user", "contact", "customer", "person", "lead"])
def test_person_may_be_nested(name: str) -> None:
    properties = {name: an_object(**texts("Email", "first_name", "domain"))}

    assert inferred(properties) == {
        "contact.email": [f"{name}.Email"],
        "contact.first_name": [f"{name}.first_name"],
    }


@pytest.mark.parametrize("name", ["company", "account", "organization"])
def test_object_of_a_company_never_fills_the_contact(name: str) -> None:
    properties = {name: an_object(**texts("email", "first_name", "domain"))}

    assert inferred(properties) == {"account.domain": [f"{name}.domain"]}


@pytest.mark.parametrize("name", ["metadata", "payload", "sender", "company_user"])
def test_other_objects_fill_no_field(name: str) -> None:
    assert inferred({name: an_object(**texts("email", "domain"))}) == {}


@pytest.mark.parametrize(
    ("column", "schema", "place"),
    [
        ("mp_reserved_email", TEXT, "mp_reserved_email"),  # Mixpanel
        ("hidden", an_object(email=TEXT), "hidden.email"),  # Typeform
        ("email", an_object(S=TEXT), "email.S"),  # DynamoDB
        ("email", an_object(VALUE=TEXT), "email.VALUE"),
    ],
)
def test_address_of_a_source_is_found(
    column: str, schema: dict[str, Any], place: str
) -> None:
    assert inferred({column: schema}) == {"contact.email": [place]}


def test_object_with_other_fields_is_no_value_of_dynamodb() -> None:
    properties = {"company": an_object(**texts("S", "N", "name"))}

    assert inferred({**texts("email"), **properties})["account.name"] == [
        "company.name"
    ]


def test_column_comes_before_the_object_of_a_user() -> None:
    """The user may be a cashier."""
    properties = {"user": an_object(**texts("work_email")), **texts("email")}

    assert inferred(properties) == {"contact.email": ["email"]}


def test_object_without_known_fields_is_read_by_the_usual_names() -> None:
    """As `tap-jsonl` describes a nested object."""
    properties = {"user": {"type": ["null", "object"], "additionalProperties": True}}

    assert inferred(properties) == {
        "contact.email": ["user.email"],
        "contact.first_name": ["user.first_name"],
        "contact.last_name": ["user.last_name"],
    }


def test_open_schema_is_read_by_the_usual_names() -> None:
    assert inferred({}) == {
        "contact.email": ["email"],
        "contact.first_name": ["first_name"],
        "contact.last_name": ["last_name"],
        "account.domain": ["domain"],
    }


def test_message_is_no_email_address() -> None:
    assert inferred({"email": an_object(subject=TEXT, name=TEXT)}) == {}


@pytest.mark.parametrize(
    ("email", "found"),
    [
        (["ada@acme.com"], "ada@acme.com"),
        ([{"address": "ada@acme.com", "verified": True}], "ada@acme.com"),
        ({"address": "ada@acme.com"}, "ada@acme.com"),
        ({"subject": "Hello"}, None),
        ([], None),
    ],
)
def test_address_in_a_list_or_an_object_is_found(email: object, found: object) -> None:
    schema = {"email": {"type": ["null", "array", "object"]}}

    assert value_of("contact.email", schema, {"email": email}) == found


@pytest.mark.parametrize(
    "schema", [{}, True, {"anyOf": [TEXT, {}]}, {"type": "string", "format": "email"}]
)
def test_column_of_any_type_may_be_an_email(schema: object) -> None:
    assert inferred({"email": schema}) == {"contact.email": ["email"]}


HUBSPOT_CONTACT = {
    "vid": {"type": "integer"},
    "properties": an_object(
        email=an_object(value=TEXT),
        firstname=an_object(value=TEXT),
        lastname=an_object(value=TEXT),
        company=an_object(value=TEXT),
        website=an_object(value=TEXT),
        lastmodifieddate=an_object(value=TEXT),
    ),
}
HUBSPOT_COMPANY = {
    "id": TEXT,
    "properties": an_object(**texts("name", "domain", "website", "createdate")),
}
SALESFORCE_LEAD = texts(
    "Id", "Email", "FirstName", "LastName", "Name", "Company", "Website",
    "LastModifiedDate", "SystemModstamp", "CreatedDate",
)  # fmt: skip
SALESFORCE_ACCOUNT = texts("Id", "Name", "Website", "Phone", "LastModifiedDate")
STRIPE_CHARGE = {
    **texts("id", "receipt_email", "customer", "description"),
    "billing_details": an_object(**texts("email", "name", "phone")),
}
KLAVIYO_PROFILE = {
    **texts("type", "id", "updated"),
    "attributes": an_object(
        **texts("email", "first_name", "last_name", "organization", "created"),
    ),
}
GITHUB_COMMIT = {
    **texts("org", "repo", "sha"),
    "commit": an_object(
        **texts("message"),
        author=an_object(**texts("name", "email", "date")),
    ),
}
SEGMENT_TRACK = {
    **texts("event", "original_timestamp", "received_at"),
    "context": an_object(traits=an_object(**texts("email", "name"))),
}


@pytest.mark.parametrize(
    ("stream", "properties", "expected"),
    [
        (
            "contacts",
            HUBSPOT_CONTACT,
            {
                "contact.email": ["properties.email.value"],
                "contact.first_name": ["properties.firstname.value"],
                "contact.last_name": ["properties.lastname.value"],
                "account.domain": ["properties.website.value"],
                "account.name": ["properties.company.value"],
            },
        ),
        (
            "companies",
            HUBSPOT_COMPANY,
            {
                "account.domain": ["properties.domain", "properties.website"],
                "account.name": ["properties.name"],
            },
        ),
        (
            "contacts",
            texts("property_email", "properties__company", "property_hs_email_domain"),
            {
                "contact.email": ["property_email"],
                "account.name": ["properties__company"],
                "account.domain": ["property_hs_email_domain"],
            },
        ),
        (
            "Lead",
            SALESFORCE_LEAD,
            {
                "contact.email": ["Email"],
                "contact.first_name": ["FirstName"],
                "contact.last_name": ["LastName"],
                "account.domain": ["Website"],
                "account.name": ["Company"],
            },
        ),
        (
            "Account",
            SALESFORCE_ACCOUNT,
            {"account.domain": ["Website"], "account.name": ["Name"]},
        ),
        (
            "charges",
            STRIPE_CHARGE,
            {
                "contact.email": ["billing_details.email", "receipt_email"],
                "contact.first_name": ["billing_details.name"],
                "contact.last_name": ["billing_details.name"],
            },
        ),
        (
            "profiles",
            KLAVIYO_PROFILE,
            {
                "contact.email": ["attributes.email"],
                "contact.first_name": ["attributes.first_name"],
                "contact.last_name": ["attributes.last_name"],
                "account.name": ["attributes.organization"],
            },
        ),
        (
            "commits",
            GITHUB_COMMIT,
            {
                "contact.email": ["commit.author.email"],
                "contact.first_name": ["commit.author.name"],
                "contact.last_name": ["commit.author.name"],
            },
        ),
        (
            "tracks",
            SEGMENT_TRACK,
            {
                "contact.email": ["context.traits.email"],
                "contact.first_name": ["context.traits.name"],
                "contact.last_name": ["context.traits.name"],
                "occurred_at": ["original_timestamp"],
            },
        ),
        (
            "public-accounts",
            texts("id", "email", "full name"),
            {
                "contact.email": ["email"],
                "contact.first_name": ["full name"],
                "contact.last_name": ["full name"],
            },
        ),
        (
            "companies",
            texts("id", "email", "domain", "name"),
            {"account.domain": ["domain", "email"], "account.name": ["name"]},
        ),
        ("customers", texts("id", "email", "name"), {"contact.email": ["email"]}),
    ],
)
def test_streams_of_well_known_sources(
    stream: str, properties: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert inferred(properties, stream) == expected


PRIMARY = {
    "type": "array",
    "items": an_object(value=TEXT, primary={"type": "boolean"}),
}


@pytest.mark.parametrize(
    ("stream", "properties", "expected"),
    [
        (  # Shopify's orders, with the cashier
            "orders",
            {
                "user": an_object(**texts("email", "first_name")),
                "customer": an_object(**texts("email", "first_name", "last_name")),
            },
            {
                "contact.email": ["customer.email"],
                "contact.first_name": ["customer.first_name"],
                "contact.last_name": ["customer.last_name"],
            },
        ),
        (
            "orders",
            {
                "user": an_object(**texts("email", "first_name")),
                "customer": an_object(**texts("email")),
            },
            {"contact.email": ["customer.email"]},
        ),
        (
            "orders",
            {
                "user": an_object(**texts("email")),
                "customer": an_object(**texts("first_name")),
            },
            {},
        ),
        (
            "orders",
            {"user": an_object(**texts("email")), "customer": an_object(id=TEXT)},
            {},
        ),
        (
            "orders",
            {"user": an_object(**texts("email")), **texts("first_name", "email")},
            {"contact.email": ["email"], "contact.first_name": ["first_name"]},
        ),
        (
            "orders",
            texts("user_email", "user_first_name", "customer_email", "last_name"),
            {"contact.email": ["customer_email"]},
        ),
        (
            "orders",
            texts("user_email", "customer_first_name"),
            {},
        ),
        (
            "orders",
            texts("customer_email", "first_name", "last_name"),
            {
                "contact.email": ["customer_email"],
                "contact.first_name": ["first_name"],
                "contact.last_name": ["last_name"],
            },
        ),
        (  # Stripe's checkout sessions
            "checkout_sessions",
            {
                **texts("customer_email", "customer"),
                "customer_details": an_object(**texts("email", "name")),
            },
            {
                "contact.email": ["customer_details.email", "customer_email"],
                "contact.first_name": ["customer_details.name"],
                "contact.last_name": ["customer_details.name"],
            },
        ),
        (  # Dynamics
            "contacts",
            texts("contactid", "emailaddress1", "firstname", "lastname"),
            {
                "contact.email": ["emailaddress1"],
                "contact.first_name": ["firstname"],
                "contact.last_name": ["lastname"],
            },
        ),
        (  # QuickBooks
            "customers",
            {
                **texts("Id", "GivenName", "FamilyName", "CompanyName"),
                "PrimaryEmailAddr": an_object(**texts("Address")),
                "WebAddr": an_object(**texts("URI")),
            },
            {
                "contact.email": ["PrimaryEmailAddr.Address"],
                "contact.first_name": ["GivenName"],
                "contact.last_name": ["FamilyName"],
                "account.domain": ["WebAddr.URI"],
                "account.name": ["CompanyName"],
            },
        ),
        (  # Outreach
            "prospects",
            {
                **texts("firstName", "lastName", "company", "websiteUrl1"),
                "emails": {"type": ["null", "array"], "items": TEXT},
            },
            {
                "contact.email": ["emails"],
                "contact.first_name": ["firstName"],
                "contact.last_name": ["lastName"],
                "account.domain": ["websiteUrl1"],
                "account.name": ["company"],
            },
        ),
        (  # Freshdesk and Intercom
            "contacts",
            texts("id", "email", "name", "company_id"),
            {
                "contact.email": ["email"],
                "contact.first_name": ["name"],
                "contact.last_name": ["name"],
            },
        ),
        (  # Freshdesk
            "companies",
            {**texts("name"), "domains": {"type": "array", "items": TEXT}},
            {"account.domain": ["domains"], "account.name": ["name"]},
        ),
        (  # Zendesk
            "tickets",
            {
                **texts("subject"),
                "requester": an_object(**texts("email", "name")),
                "assignee": an_object(**texts("email", "name")),
            },
            {
                "contact.email": ["requester.email"],
                "contact.first_name": ["requester.name"],
                "contact.last_name": ["requester.name"],
            },
        ),
        (  # Zendesk
            "organizations",
            {**texts("name"), "domain_names": {"type": "array", "items": TEXT}},
            {"account.domain": ["domain_names"], "account.name": ["name"]},
        ),
        (
            "contacts",
            {"email": {"type": ["array", "null"], "items": TEXT}},
            {"contact.email": ["email"]},
        ),
        (
            "contacts",
            {"email": {**an_object(**texts("Address")), "type": ["object", "null"]}},
            {"contact.email": ["email.Address"]},
        ),
        ("contacts", {"email": {"type": "object"}}, {"contact.email": ["email"]}),
        (  # Pipedrive
            "persons",
            {**texts("name", "org_name"), "email": PRIMARY},
            {
                "contact.email": ["email"],
                "contact.first_name": ["name"],
                "contact.last_name": ["name"],
                "account.name": ["org_name"],
            },
        ),
        (  # Pipedrive
            "deals",
            {
                "person_id": an_object(**texts("name"), email=PRIMARY),
                "user_id": an_object(**texts("name", "email")),
                "org_id": an_object(**texts("name")),
            },
            {
                "contact.email": ["person_id.email"],
                "contact.first_name": ["person_id.name"],
                "contact.last_name": ["person_id.name"],
                "account.name": ["org_id.name"],
            },
        ),
        (  # Segment in a warehouse
            "tracks",
            texts("context_traits_email", "context_traits_first_name"),
            {
                "contact.email": ["context_traits_email"],
                "contact.first_name": ["context_traits_first_name"],
            },
        ),
        (  # Amplitude
            "events",
            {
                **texts("event_type", "event_time", "user_id"),
                "user_properties": an_object(**texts("email", "company")),
                "event_properties": an_object(**texts("email")),
            },
            {
                "contact.email": ["user_properties.email"],
                "occurred_at": ["event_time"],
            },
        ),
        (
            "rows",
            texts("email", "Email", "E-Mail"),
            {"contact.email": ["email", "Email", "E-Mail"]},
        ),
        (
            "companies",
            {
                **texts("company"),
                "account": an_object(**texts("domain", "name")),
            },
            {"account.domain": ["account.domain"], "account.name": ["account.name"]},
        ),
    ],
)
def test_fields_come_from_one_object(
    stream: str, properties: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert inferred(properties, stream) == expected


NAMES_OF = {
    "customer": "Ada",
    "contact": "Bob",
    "lead": "Cleo",
    "billing_details": "Dora",
    "user": "Eve",
    "account": "Finn",
}
COLUMNS = ["email", "work_email", "first_name", "last_name", "full_name", "domain"]
objects = st.dictionaries(
    st.sampled_from(list(NAMES_OF)),
    st.dictionaries(st.sampled_from(COLUMNS), st.booleans()),
    max_size=4,
)


@pytest.mark.slow
@pytest.mark.parametrize("is_flat", [False, True])
@given(found=objects)
def test_inference_never_mixes_two_objects(
    found: dict[str, dict[str, bool]], *, is_flat: bool
) -> None:
    """Each column is null or has the name of its object's person."""
    properties = {role: an_object(**texts(*names)) for role, names in found.items()}
    record: dict[str, Any] = {
        role: {c: _of(role, c) if is_filled else None for c, is_filled in its.items()}
        for role, its in found.items()
    }
    if is_flat:
        properties = texts(*(f"{r}_{c}" for r, its in found.items() for c in its))
        record = {f"{r}_{c}": v for r, its in record.items() for c, v in its.items()}
    shape = StreamSchema(name="s", properties=properties, key_properties=())
    values = {
        field: compile_template(origin.template, field).read(record)
        for field, origin in inferred_templates(shape).items()
    }
    domain = values.pop("account.domain", None)
    values = {f: v for f, v in values.items() if f.startswith("contact.")}

    sent = {str(v).partition("@")[0] for v in values.values() if v}
    if values.get("contact.email"):
        assert len(sent) == 1
        assert domain in {None, f"{sent.copy().pop().lower()}.com"}
        filled = {role for role, its in found.items() if its.get("email")} & {*NAMES_OF}
        assert sent != {NAMES_OF["user"]} or not filled & {"customer", "contact"}


def _of(role: str, column: str) -> str:
    name = NAMES_OF[role]
    if column == "full_name":
        return f"{name} {name}"
    return f"{name}@{name.lower()}.com" if "email" in column else name


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ("Lead Email|Lead First Name|Rep Email", ["Lead Email", "Lead First Name"]),
        ("guest_email|guest_name|host_email|host_name", ["guest_email", "guest_name"]),
        (
            "requester_email|requester_name|agent_email",
            ["requester_email", "requester_name"],
        ),
        (
            "client_email|vendor_email|client_first_name",
            ["client_email", "client_first_name"],
        ),
    ],
)
def test_columns_of_one_role_are_one_person(columns: str, found: list[str]) -> None:
    fields = inferred(texts(*columns.split("|")))

    assert [fields["contact.email"], fields["contact.first_name"]] == [
        [n] for n in found
    ]


def test_visitor_of_a_chat_is_the_contact_and_not_the_agent() -> None:
    people = {n: an_object(**texts("email", "name")) for n in ("agent", "visitor")}

    assert inferred(people)["contact.email"] == ["visitor.email"]


def test_columns_of_well_known_exports_are_found() -> None:
    fields = {"merge_fields": an_object(**texts("FNAME", "LNAME"))}
    case = texts("SuppliedEmail", "SuppliedName", "SuppliedCompany")

    assert inferred({**texts("email_address"), **fields}) == {
        "contact.email": ["email_address"],
        "contact.first_name": ["merge_fields.FNAME"],
        "contact.last_name": ["merge_fields.LNAME"],
    }
    assert inferred(case) == {
        "contact.email": ["SuppliedEmail"],
        "contact.first_name": ["SuppliedName"],
        "contact.last_name": ["SuppliedName"],
        "account.name": ["SuppliedCompany"],
    }
    others = {"other_emails": {"type": "array", "items": TEXT}}
    assert inferred({**texts("email"), **others}) == {
        "contact.email": ["email", "other_emails"]
    }


CUSTOMER = texts("email", "first_name", "name")
ORDER = {
    **texts("email", "billing_email", "billing_first_name", "first_name"),
    "customer": an_object(**CUSTOMER),
    "user": an_object(**CUSTOMER),
}


@pytest.mark.parametrize(
    ("record", "email", "first_name"),
    [
        (
            {"email": "bob@x.com", "customer": {"email": "ada@x.com", "name": "Ada L"}},
            "ada@x.com",
            "Ada",
        ),
        (
            {"email": "bob@x.com", "first_name": "Bob", "customer": None},
            "bob@x.com",
            "Bob",
        ),
        (
            {"email": "bob@x.com", "customer": {"email": " ", "first_name": "Ada"}},
            "bob@x.com",
            None,
        ),
        (
            {"billing_email": "cy@x.com", "billing_first_name": "Cy", "email": "N/A"},
            "cy@x.com",
            "Cy",
        ),
        ({"user": {"email": "cashier@x.com", "first_name": "Eve"}}, None, None),
        (
            {"customer": {"email": "ada@x..com"}, "email": "bob@x.com"},
            "ada@x..com",
            None,
        ),
    ],
)
def test_person_without_an_address_is_replaced_by_the_next_one(
    record: dict[str, Any], email: str | None, first_name: str | None
) -> None:
    """A guest has no `customer`. All fields are still those of one person."""
    assert value_of("contact.email", ORDER, record) == email
    if email:
        assert value_of("contact.first_name", ORDER, record) == first_name


def test_company_is_that_of_the_contacts_address() -> None:
    private = {"customer": {"email": "ada@gmail.com"}, "email": "bob@acme.com"}

    assert value_of("account.domain", ORDER, private) is None
    assert value_of("account.domain", ORDER, {"email": "bob@acme.com"}) == "acme.com"
    websites = {**ORDER, **texts("website")}
    assert value_of("account.domain", websites, {**private, "website": "x.com"}) is None
    birch = {**private, "website": "birch.com"}
    assert value_of("account.domain", websites, birch) == "birch.com"


def test_address_of_a_company_gives_its_domain_only() -> None:
    found = inferred(texts("name", "website", "email"), "accounts")

    assert found == {"account.domain": ["website", "email"], "account.name": ["name"]}


def value_of(field: str, properties: dict[str, Any], record: dict[str, Any]) -> object:
    shape = StreamSchema(name="s", properties=properties, key_properties=())
    return compile_template(inferred_templates(shape)[field].template, field).read(
        record
    )


@pytest.mark.parametrize(
    ("emails", "email"),
    [
        ([{"value": "a@x.com"}, {"value": "b@x.com", "primary": True}], "b@x.com"),
        ([{"Address": "a@x.com"}, {"Address": "b@x.com", "IsPrimary": "1"}], "b@x.com"),
        ([{"email": "a@x.com", "primary": False}, {"email": "b@x.com"}], "a@x.com"),
        (["a@x.com", "b@x.com"], "a@x.com"),
        ("a@x.com", "a@x.com"),
        ([{"primary": True}], None),
        (
            [{"email": "a@x.com"}, {"email": "b@x.com", "Type": "work", "type": "x"}],
            "b@x.com",
        ),
        ([{"value": None, "primary": True}, {"value": "b@x.com"}], "b@x.com"),
        ([None, "b@x.com"], "b@x.com"),
        (
            [
                {"value": "a@x.com", "type": "home"},
                {"value": "b@x.com", "type": "Work"},
            ],
            "b@x.com",
        ),
        (
            [{"value": "a@x.com", "label": "work"}, {"value": "b@x.com", "primary": 1}],
            "b@x.com",
        ),
        (
            [{"value": "a@x.com"}, {"value": "b@x.com", "metadata": {"primary": True}}],
            "b@x.com",
        ),
        ([{"value": "a@x.com"}, {"value": "b@x.com", "type": "PRIMARY"}], "b@x.com"),
        (
            [
                {"email_address": "a@x.com"},
                {"email_address": "b@x.com", "primary_address": "1"},
            ],
            "b@x.com",
        ),
        ([{"email": "a@x.com", "is_unsubscribed": True}], None),
        ([{"value": "a@x.com", "deleted": True}, {"value": "b@x.com"}], "b@x.com"),
        ([], None),
        (None, None),
    ],
)
def test_primary_item_of_a_list_counts(emails: object, email: str | None) -> None:
    assert value_of("contact.email", {"emails": PRIMARY}, {"emails": emails}) == email


@pytest.mark.parametrize(
    ("record", "domain"),
    [
        ({"website": "https://www.acme.com", "email": "ada@birch.com"}, "acme.com"),
        ({"website": "", "email": "ada@mail.acme.co.uk"}, "acme.co.uk"),
        ({"website": "linkedin.com/company/acme", "email": "ada@acme.com"}, "acme.com"),
        ({"website": "*.acme.com", "email": "ada@acme.com"}, "acme.com"),
        ({"website": None, "email": "ada@gmail.com"}, None),
        ({"website": None, "email": "ada@example.com"}, None),
        ({"website": "example.com", "email": None}, "example.com"),
    ],
)
def test_domain_of_the_address_counts_where_no_other_is_known(
    record: dict[str, Any], domain: str | None
) -> None:
    assert value_of("account.domain", texts("website", "email"), record) == domain


@pytest.mark.parametrize("given", [None, {"email": None}, {"email": "{{ owner }}"}])
def test_person_of_a_mapping_is_not_mixed_with_an_inferred_one(given: object) -> None:
    shape = a_shape(properties=texts("owner", "email", "first_name"), key=())

    fields = set(a_map(shape, contact=given, account={"name": "x"}).origins)

    assert not fields & {"contact.first_name", "account.domain"}


STAFF = """
owners admins employees User agents crm-owners salesforce-User Staff hr_employees
empleados employes sys_user crm_owners support_agents account_executives sales_team
zendesk_agents sales_reps HubSpotOwners
"""


@pytest.mark.parametrize("stream", [*STAFF.split(), "system_users", "hubspot__owners"])
def test_stream_of_own_staff_is_not_inferred(stream: str) -> None:
    shape = a_shape(stream, texts("email", "name"), ())
    named = items_of({"stream": stream})

    (inferred_map,) = mappings_for(shape, (), "tests")
    assert inferred_map.is_left_out
    (warning,) = inferred_map.warnings
    assert warning == (
        f"Stream `{stream}` is left out, because it is named like a list of your own "
        "staff. To send it, give it a mapping of its own in `signals`, such as "
        f"`{{stream: {stream}}}`."
    )
    (by_glob,) = mappings_for(shape, items_of({"stream": "*"}), "tests")
    assert by_glob.is_left_out
    (by_name,) = mappings_for(shape, named, "tests")
    assert not by_name.is_left_out
    assert not by_name.warnings


@pytest.mark.parametrize(
    "columns",
    ["email is_you", "email is_bot team_id", "Email UserType FederationIdentifier"],
)
def test_users_of_a_tool_are_your_own_staff(columns: str) -> None:
    (mapping,) = mappings_for(a_shape("users", texts(*columns.split()), ()), (), "t")

    assert mapping.is_left_out
    assert "it has the columns of a list of your own staff" in mapping.warnings[0]


OPT_OUTS = """
unsubscribes opt_outs unsubscribed_users suppression_list suppressed_emails opt_out_list
blacklist blocklist dnc unsubs unsubscribe_events spam_reports blocks bounced_emails
invalid_emails cleaned_members deleted_users deleted_contacts gdpr_deletions
erasure_requests deletion_requests sperrliste abmeldungen desabonnes robinson_list
"""


@pytest.mark.parametrize("stream", OPT_OUTS.split())
def test_stream_of_people_who_opted_out_is_not_inferred(stream: str) -> None:
    (mapping,) = mappings_for(a_shape(stream, texts("email"), ()), (), "tests")

    assert mapping.is_left_out
    assert "see `suppress`" in mapping.warnings[0]


@pytest.mark.parametrize(
    "stream", ["users", "public-users", "business_owners", "user", "travel_agents"]
)
def test_stream_of_other_people_is_inferred(stream: str) -> None:
    (mapping,) = mappings_for(a_shape(stream, texts("email"), ()), (), "tests")

    assert not mapping.is_left_out


@pytest.mark.parametrize("name", ["events", "signal_created", "renamed"])
def test_stream_of_the_webhooks_tap_is_never_inferred(name: str) -> None:
    records = texts("sequence", "event", "event_id", "received_at")
    payload = {"account": an_object(**texts("domain")), **texts("email")}

    (mapping,) = mappings_for(a_shape(name, records | payload, ()), (), "tests")

    assert mapping.is_left_out
    assert "Stairoids' own webhooks" in mapping.warnings[0]


def test_free_mail_domain_is_no_company() -> None:
    origin = inferred_templates(
        StreamSchema(name="s", properties=texts("domain"), key_properties=())
    )["account.domain"]
    read = compile_template(origin.template, "account.domain").read

    assert read({"domain": "gmail.com"}) is None
    assert read({"domain": "acme.com"}) == "acme.com"


def test_origin_has_the_reason() -> None:
    shape = StreamSchema(
        name="s", properties=texts("work_email", "email"), key_properties=()
    )

    assert inferred_templates(shape)["contact.email"].why == (
        "named like an email address: `work_email`, then `email`"
    )


@pytest.mark.parametrize(
    ("file", "stream", "expected"),
    [
        (
            "meltanolabs-tap-postgres_full.jsonl",
            "crm-contacts",
            {
                "contact.email": ["email"],
                "contact.first_name": ["full_name"],
                "contact.last_name": ["full_name"],
            },
        ),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-empty_t", {}),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-events", {}),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-no_pk", {}),
        (
            "meltanolabs-tap-postgres_full.jsonl",
            "crm-v_customers",
            {"contact.email": ["email"]},
        ),
        (
            "sdk-tap-csv.jsonl",
            "customers",
            {
                "contact.email": ["email"],
                "contact.first_name": ["full name"],
                "contact.last_name": ["full name"],
                "occurred_at": ["signed_up_at"],
            },
        ),
        (
            "tap-jsonl.jsonl",
            "events",
            {
                "contact.email": ["user.email"],
                "contact.first_name": ["user.first_name"],
                "contact.last_name": ["user.last_name"],
            },
        ),
        ("tap-mysql_full.jsonl", "leads", {"contact.email": ["email"]}),
        ("tap-rest-api-msdk.jsonl", "leads", {"contact.email": ["email"]}),
    ],
)
def test_streams_of_real_taps(
    file: str, stream: str, expected: dict[str, list[str]]
) -> None:
    assert inferred(schemas_in(file)[stream]) == expected


def calls_for(columns: int) -> int:
    """Return how many functions are called to map a stream with so many columns."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    shape = a_shape(properties=texts("trial_id", *(f"c{n}" for n in range(columns))))
    sys.setprofile(count)
    mappings_for(shape, (), "tests")
    sys.setprofile(None)
    return calls


@pytest.mark.slow
def test_cost_of_a_schema_is_linear_in_its_columns() -> None:
    calls_for(1_600)  # fills the caches of names

    assert calls_for(1_600) < 2.2 * calls_for(800)
