"""Inference of templates from the names of columns."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from target_stairoids.mapping.expressions.template import compile_template
from target_stairoids.mapping.inference import inferred_templates
from target_stairoids.mapping.schema import StreamSchema
from tests.support.paths import DATA

TEXT = {"type": ["null", "string"]}


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, TEXT)


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": ["null", "object"], "properties": properties}


def inferred(properties: dict[str, Any], name: str = "rows") -> dict[str, list[str]]:
    """Return signal field -> the places it is read from, in transaction."""
    shape = StreamSchema(name=name, properties=properties, key_properties=())
    return {
        field: [_place(text) for text in origin.template[3:-3].split(" or ")]
        for field, origin in inferred_templates(shape).items()
    }


def _place(text: str) -> str:
    """Return `Full name` of `record["Full name"] | first_name`."""
    spelling = text.partition(" | ")[0]
    return re.sub(r'\["(.*?)"\]', r".\1", spelling).removeprefix("record.")


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


def test_column_comes_before_a_nested_field() -> None:
    properties = {"user": an_object(**texts("work_email")), **texts("email")}

    assert inferred(properties) == {"contact.email": ["email", "user.work_email"]}


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


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": TEXT},
        {"type": ["null", "object"]},
        an_object(address=TEXT),
    ],
)
def test_list_or_object_is_no_email(schema: dict[str, Any]) -> None:
    assert inferred({"email": schema}) == {}


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
                "contact.email": ["receipt_email", "billing_details.email"],
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
            {"account.domain": ["domain"], "account.name": ["name"]},
        ),
        ("customers", texts("id", "email", "name"), {"contact.email": ["email"]}),
    ],
)
def test_streams_of_well_known_sources(
    stream: str, properties: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert inferred(properties, stream) == expected


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
