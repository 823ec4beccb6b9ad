"""Without a mapping, names decide; no guess ever takes a company for a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from target_stairoids.inference import paths_for

DATA = Path(__file__).parent.parent / "data"
FIELDS = (
    "contact.email",
    "contact.first_name",
    "contact.last_name",
    "account.domain",
    "account.name",
    "occurred_at",
)
TEXT = {"type": ["null", "string"]}


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, TEXT)


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": ["null", "object"], "properties": properties}


def inferred(properties: dict[str, Any]) -> dict[str, list[str]]:
    paths = {field: paths_for(field, properties) for field in FIELDS}
    return {
        f: [".".join(path) for path in found] for f, found in paths.items() if found
    }


def schemas_in(file: str) -> dict[str, dict[str, Any]]:
    messages = map(json.loads, (DATA / file).read_text(encoding="utf-8").splitlines())
    return {
        message["stream"]: message["schema"]["properties"]
        for message in messages
        if message["type"] == "SCHEMA"
    }


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("email", "contact.email"),
        ("EMAIL", "contact.email"),
        ("E-Mail", "contact.email"),
        ("e mail", "contact.email"),
        ("work_email", "contact.email"),
        ("userEmail", "contact.email"),
        ("Email Address", "contact.email"),
        ("contact_email", "contact.email"),
        ("firstname", "contact.first_name"),
        ("FirstName", "contact.first_name"),
        ("given_name", "contact.first_name"),
        ("last_name", "contact.last_name"),
        ("surname", "contact.last_name"),
        ("domain", "account.domain"),
        ("company_domain", "account.domain"),
        ("website", "account.domain"),
        ("Website URL", "account.domain"),
        ("company", "account.name"),
        ("company_name", "account.name"),
        ("organization", "account.name"),
        ("organisation_name", "account.name"),
        ("occurred_at", "occurred_at"),
        ("eventTime", "occurred_at"),
    ],
)
def test_name_tells_the_field(name: str, field: str) -> None:
    assert inferred(texts(name)) == {field: [name]}


@pytest.mark.parametrize(
    "name",
    [
        "company_email",
        "account_email",
        "organization_email",
        "billing_email_sent",
        "email_opt_in",
        "emails",
        "email_domain",
        "name",
        "full_name",
        "username",
        "company_first_name",
        "updated_at",
        "updatedAt",
        "modified_at",
        "last_modified",
        "_sdc_last_modified",
        "created_at",
        "ts",
        "timestamp",
        "url",
        "subdomain",
        "id",
        "",
        "_",
    ],
)
def test_other_names_tell_nothing(name: str) -> None:
    assert inferred(texts(name)) == {}


def test_most_specific_name_comes_first_whatever_the_order() -> None:
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
def test_company_object_never_gives_a_person(name: str) -> None:
    properties = {name: an_object(**texts("email", "first_name", "domain"))}

    assert inferred(properties) == {"account.domain": [f"{name}.domain"]}


@pytest.mark.parametrize("name", ["metadata", "payload", "sender", "company_user"])
def test_other_objects_are_left_alone(name: str) -> None:
    assert inferred({name: an_object(**texts("email", "domain"))}) == {}


def test_field_of_the_record_comes_before_a_nested_one() -> None:
    properties = {"user": an_object(**texts("work_email")), **texts("email")}

    assert inferred(properties) == {"contact.email": ["email", "user.work_email"]}


def test_object_of_unknown_fields_is_asked_for_the_usual_names() -> None:
    """As `tap-jsonl` describes a nested object."""
    properties = {"user": {"type": ["null", "object"], "additionalProperties": True}}

    assert inferred(properties) == {
        "contact.email": ["user.email"],
        "contact.first_name": ["user.first_name"],
        "contact.last_name": ["user.last_name"],
    }


def test_open_schema_is_asked_for_the_usual_names() -> None:
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
        an_object(value=TEXT),
    ],
)
def test_list_or_object_is_no_email(schema: dict[str, Any]) -> None:
    assert inferred({"email": schema}) == {}


@pytest.mark.parametrize(
    "schema", [{}, True, {"anyOf": [TEXT, {}]}, {"type": "string", "format": "email"}]
)
def test_field_of_any_type_may_be_an_email(schema: object) -> None:
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


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (
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
            HUBSPOT_COMPANY,
            {"account.domain": ["properties.domain", "properties.website"]},
        ),
        (
            SALESFORCE_LEAD,
            {
                "contact.email": ["Email"],
                "contact.first_name": ["FirstName"],
                "contact.last_name": ["LastName"],
                "account.domain": ["Website"],
                "account.name": ["Company"],
            },
        ),
        (SALESFORCE_ACCOUNT, {"account.domain": ["Website"]}),
    ],
    ids=["hubspot contact", "hubspot company", "salesforce lead", "salesforce account"],
)
def test_well_known_shapes_are_understood(
    properties: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert inferred(properties) == expected


@pytest.mark.parametrize(
    ("file", "stream", "expected"),
    [
        (
            "meltanolabs-tap-postgres_full.jsonl",
            "crm-contacts",
            {"contact.email": ["email"]},
        ),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-empty_t", {}),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-events", {}),
        ("meltanolabs-tap-postgres_full.jsonl", "crm-no_pk", {}),
        (
            "meltanolabs-tap-postgres_full.jsonl",
            "crm-v_customers",
            {"contact.email": ["email"]},
        ),
        ("sdk-tap-csv.jsonl", "customers", {"contact.email": ["email"]}),
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
def test_streams_that_real_taps_printed(
    file: str, stream: str, expected: dict[str, list[str]]
) -> None:
    assert inferred(schemas_in(file)[stream]) == expected
