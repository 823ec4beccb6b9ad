"""Privacy by default: columns that inference leaves out, and records it filters."""

from __future__ import annotations

from typing import Any

import pytest

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.privacy import is_sensitive, opted_out, refused
from tests.support.mapping_builders import TEXT, a_map, a_shape

SECRETS = """
password passwd pwd password_hash passwordHash encrypted_password old_password salt
secret secret_key client_secret api_token apiKey API_KEY token access_token authToken
refreshToken reset_password_token private_key session_token otp pin cookie authorization
auth_key ssh_key session_id seed_phrase connection_string contraseña
pwhash pass_hash bcrypt magic_link login_link reset_link slack_webhook_url
private_notes smtp_pass API_Key__c pincode pass u_pass auth senha slack_webhook sas_url
saml_assertion sms_code door_code clave_acceso
"""
PERSONAL = """
ssn SSN social_security_number national_id tax_id passport_no iban IBAN
bank_account_number credit_card creditCardNumber card_number cvv date_of_birth dob
birthday birth_date BirthDate religion ethnicity health_condition salary hiv_status
medications medical_notes patient_notes health allergies symptoms therapy race sex
ni_number fuehrerschein id_card visa_number veteran_status fingerprint
nhs_number medicare_number insurance_number personalausweis id_number soc_sec_no
ssnumber drivers_licence account_no konto SSN__c hr__Patient_Notes__pc HEALTH__C
governmentid government_id reisepassnummer numéro_de_sécurité_sociale svnr SV-Nummer
ahv_nummer num_secu N.I.F. fodselsnummer cpr_number nin rut cedula carte_identite
steuernr
lohn Bruttogehalt Nettolohn einkommen salaire sueldo wage hourly_rate compensation
numero_compte rib clabe cuenta_bancaria bankleitzahl carte_bancaire tarjeta_credito
schufa_score diagnose diagnostico mrn icd10 Grad_der_Behinderung blutgruppe schwanger
impfstatus covid_status gewerkschaft ethnie nationality political_views marital_status
gender pronouns bmi blood_pressure citizenship personal_id nric tfn card_last4 bank_acct
geschlecht vorstrafen casier_judiciaire conviction geb_datum nacimiento data_nascimento
"""
HARMLESS = """
email plan seats phone country notes updated_at tokens_used company_name shipping pinned
opinion compass card_brand passed secretary health_score taxes page opted spin domain
account_notes paid_number business_number session_count webhook_count racer sexton
account_node access_level code health_tech id number disabled diagnostics_enabled passes
author authority ribbon conversion_rate
"""
OPT_OUTS = """
is_deleted IsDeleted Is_Deleted__c Unsubscribed__c deleted
deleted_at deletedAt _fivetran_deleted __deleted removed_at
unsubscribed unsubscribed_at unsubscribed_from_emails do_not_contact DoNotContact
do_not_email donotbulkemail opt_out opted_out HasOptedOutOfEmail hs_email_optout
hs_email_optout_123 email_opt_out marketing_opt_out email_blacklisted anonymized_at
Do_Not_Contact__c Email_Opt_Out__c EmailOptedOut__c pi__pardot_opted_out__c
Do_Not_Email__pc DO_NOT_CONTACT__C opt_out_email opted_out_from_marketing spam_complaint
consent_withdrawn consent_withdrawn_at gdpr_consent_revoked marketing_permission_denied
not_consented no_newsletter disallow_email unsubscribed_newsletter
gdpr_deletion_requested
forgotten unsub archived deceased has_hard_bounced email_invalid newsletter_abgemeldet
hs_email_bad_address hs_email_quarantined do_not_mail blocked is_spam
on_suppression_list suspended suspended_at
abgemeldet_am werbesperre kontaktsperre keine_werbung widerspruch geloescht gelöscht
désabonné ne_pas_contacter supprimé dado_de_baja no_contactar eliminado
_peerdb_is_deleted __hevo__marked_deleted __artie_delete cdc_deleted DeletedDateTime
is_staff is_superuser is_internal is_test is_test_account isBot dbt_valid_to
deleted_ind del_flag is_del discarded_at verstorben Löschdatum kein_newsletter baja
descadastrado
"""
CONSENTS = """
gdpr_consent consent marketing_consent has_consent consent_given email_opt_in opt_in
newsletter_opt_in optedIn accepts_marketing can_contact
accepts_email_marketing agreed_to_marketing agrees_to_receive_emails receives_newsletter
wants_newsletter marketing_emails Marketing_Consent__c newsletter email_marketing
emailable allow_emails gdpr_ok gdpr_accepted einwilligung dsgvo_einwilligung
consentement
consentimiento acepta_marketing hs_marketable_status
gdpr_status email_valid communication_preference
_fivetran_active livemode
"""
OTHERS = """
option adoption email unsubscribe_url plan deleted_by consent_date sms_opt_out status
is_active remove_at undone domain subscribed do_not_call cookie_consent requires_consent
requires_opt_in cookieConsent receives_invoices opt_out_sms notification_count
active_flag
"""


def mapped(record: dict[str, Any], **item: Any) -> str | dict[str, Any]:
    """Return why a record is filtered, or the properties of its signal."""
    shape = a_shape("rows", dict.fromkeys(["email", *record], TEXT), ())
    mapping = a_map(shape, **item)
    record = {"email": "ada@acme.com", **record}
    return mapping.why_filtered(record) or dict(mapping.signal_from(record).properties)


@pytest.mark.parametrize("column", [*SECRETS.split(), *PERSONAL.split()])
def test_column_that_looks_private_is_left_out_with_a_warning(column: str) -> None:
    assert mapped({column: "canary", "plan": "pro"}) == {"plan": "pro"}
    (warning,) = a_map(a_shape("rows", {"email": TEXT, column: TEXT}, ())).warnings
    assert f"`{column}`" in warning
    assert "name it in `properties`" in warning


@pytest.mark.parametrize("column", HARMLESS.split())
def test_other_column_is_not_private(column: str) -> None:
    assert not is_sensitive(column)


def test_mapping_may_name_a_private_column() -> None:
    record = {"api_token": "t", "ssn": "1"}

    assert mapped(record, properties=["ssn"]) == {"ssn": "1"}
    assert mapped(record, properties=["*", "ssn"]) == {"ssn": "1"}
    assert mapped(record, properties={"x": "{{ api_token }}"}) == {"x": "t"}
    assert mapped(record, properties="*") == {}


def test_private_column_that_the_schema_lacks_is_left_out() -> None:
    mapping = a_map(a_shape("rows", {}, ()))
    record = {"email": "ada@acme.com", "ssn": "1", "plan": "pro"}

    assert mapping.signal_from(record).properties == {"plan": "pro"}
    assert mapping.hidden.private == {"ssn"}


def mapped_columns(columns: str, value: object) -> dict[str, str | dict[str, Any]]:
    """Return column -> the result of a record in which it has the value."""
    return {column: mapped({column: value}) for column in columns.split()}


@pytest.mark.parametrize("value", [True, "true", 1, "yes", "2024-09-30", "x"])
def test_opted_out_or_deleted_record_is_filtered(value: object) -> None:
    for column, result in mapped_columns(OPT_OUTS, value).items():
        assert result == f"by `{column} | opted_out`"


@pytest.mark.parametrize("value", [False, "false", 0, "No", "withdrawn", "opted_out"])
def test_record_without_consent_is_filtered(value: object) -> None:
    for column, result in mapped_columns(CONSENTS, value).items():
        assert result == f"by `{column} | refused`"


@pytest.mark.parametrize("value", [True, False])
def test_other_column_filters_nothing(*, value: bool) -> None:
    for column, result in mapped_columns(OTHERS, value).items():
        assert isinstance(result, dict), column


def test_mapping_may_say_which_records_are_filtered() -> None:
    record = {"unsubscribed": True, "plan": "pro"}

    assert mapped(record, when=None) == record
    assert mapped(record, when="plan == 'pro'") == record
    assert mapped(record, type="lead") == "by `unsubscribed | opted_out`"


def test_flag_that_the_schema_lacks_filters_a_record() -> None:
    mapping = a_map(a_shape("rows", {}, ()))

    assert mapping.why_filtered({"is_deleted": True}) == "by `is_deleted | opted_out`"
    assert not mapping.why_filtered({"is_deleted": False})


def test_flag_inside_the_object_of_the_person_counts() -> None:
    def person(*names: str) -> dict[str, Any]:
        return {"type": "object", "properties": dict.fromkeys(names, TEXT)}

    columns = ("email", "unsubscribed")
    properties = {"customer": person(*columns), "user": person(*columns)}
    mapping = a_map(a_shape("rows", properties, ()))

    assert mapping.why_filtered({"customer": {"unsubscribed": True}}) == (
        "by `customer.unsubscribed | opted_out`"
    )
    assert not mapping.why_filtered({"user": {"unsubscribed": True}})

    properties = {"email": TEXT, "profile": person("unsubscribed")}
    mapping = a_map(a_shape("rows", properties, ()))

    assert mapping.why_filtered({"profile": {"unsubscribed": True}})


def test_message_of_an_agent_is_filtered() -> None:
    """Intercom's parts of a conversation have the author's type."""
    author = {"type": "object", "properties": dict.fromkeys(("email", "type"), TEXT)}
    mapping = a_map(a_shape("parts", {"author": author}, ()))

    def reason(kind: str) -> str | None:
        return mapping.why_filtered({"author": {"email": "a@x.com", "type": kind}})

    assert reason("admin")
    assert not reason("user")


@pytest.mark.parametrize(
    ("role", "is_staff"), [("admin", True), ("agent", True), ("end-user", False)]
)
def test_agent_among_the_users_of_zendesk_is_filtered(
    role: str, *, is_staff: bool
) -> None:
    record = {"role": role, "restricted_agent": False}
    flag = {"type": ["null", "boolean"]}
    properties = {"email": TEXT, "role": TEXT, "restricted_agent": flag}

    assert isinstance(mapped(record), str) is is_staff
    assert (
        bool(a_map(a_shape("users", properties, ())).why_filtered(record)) is is_staff
    )
    assert isinstance(mapped({"role": role}), dict)


@pytest.mark.parametrize("column", ["__op", "_op", "Op", "cdc_op", "op_type"])
def test_row_that_a_log_deletes_is_filtered(column: str) -> None:
    """Debezium writes `d`, and AWS DMS writes `D`."""
    assert isinstance(mapped({column: "d"}), str)
    assert isinstance(mapped({column: "D"}), str)
    assert isinstance(mapped({column: "u"}), dict)


def test_debit_of_a_bank_is_no_row_that_a_log_deletes() -> None:
    assert isinstance(mapped({"op": "D"}), dict)
    assert isinstance(mapped({"op": "d"}), str)


@pytest.mark.parametrize("column", ["op", "OP"])
@pytest.mark.parametrize("stream", ["contacts", "customers", "public-Members"])
def test_person_that_a_log_deletes_is_filtered_in_each_spelling(
    column: str, stream: str
) -> None:
    """Snowflake writes the `Op` of AWS DMS as `OP`, and Athena writes it as `op`."""
    contacts, payments = (
        a_map(a_shape(name, {"email": TEXT, column: TEXT}, ()))
        for name in (stream, "payments")
    )
    record = {"email": "ada@acme.com", column: "D"}

    assert contacts.why_filtered(record)
    assert not payments.why_filtered(record)


def test_boolean_column_is_read_by_its_own_name() -> None:
    """A customer whose `active` is false is no deleted person of Pipedrive."""
    shape = a_shape("rows", {"email": TEXT, "active": {"type": "boolean"}}, ())

    assert not a_map(shape).why_filtered({"email": "ada@acme.com", "active": False})


@pytest.mark.parametrize(
    "properties",
    [
        {"customer": {"type": "object", "properties": {"email": TEXT}}},
        {"website": TEXT},
    ],
    ids=["person in an object", "company"],
)
def test_deleted_row_of_a_company_or_an_inner_person_is_filtered(
    properties: dict[str, Any],
) -> None:
    mapping = a_map(a_shape("rows", {"__op": TEXT, **properties}, ()))

    assert mapping.why_filtered({"__op": "d"})
    assert not mapping.why_filtered({"__op": "u"})


def test_person_that_pipedrive_deleted_is_filtered() -> None:
    """Elsewhere, the flag may be that of a customer who left."""
    for schema in TEXT, {"type": ["null", "boolean"]}:
        columns = {"email": TEXT, "active_flag": schema, "visible_to": TEXT}
        mapping = a_map(a_shape("persons", columns, ()))

        assert mapping.why_filtered({"active_flag": False})
        assert not mapping.why_filtered({"active_flag": True})


def test_unsubscribe_event_of_sendgrid_is_filtered() -> None:
    assert isinstance(mapped({"event": "unsubscribe", "sg_event_id": "1"}), str)
    assert isinstance(mapped({"event": "click", "sg_event_id": "1"}), dict)
    assert isinstance(mapped({"event": "unsubscribe"}), dict)


@pytest.mark.parametrize("status", ["pending", "transactional"])
def test_member_of_mailchimp_who_has_not_agreed_is_filtered(status: str) -> None:
    member = {"status": status, "unique_email_id": "1"}

    assert isinstance(mapped(member), str)
    assert isinstance(mapped(member | {"status": "subscribed"}), dict)
    assert isinstance(mapped({"status": status}), dict)


def test_order_that_is_a_test_is_filtered() -> None:
    columns = {"email": TEXT, "test": {"type": ["null", "boolean"]}}
    mapping = a_map(a_shape("orders", columns, ()))

    assert mapping.why_filtered({"email": "ada@acme.com", "test": True})
    assert not mapping.why_filtered({"email": "ada@acme.com", "test": False})
    assert isinstance(mapped({"test": "A/B"}), dict)


@pytest.mark.parametrize("status", ["archived", "Trash", "spam", "banned"])
def test_status_of_a_removed_person_is_filtered(status: str) -> None:
    mapping = a_map(a_shape("contacts", {"email": TEXT, "status": TEXT}, ()))

    assert mapping.why_filtered({"email": "ada@acme.com", "status": status})


@pytest.mark.parametrize("column", ["status", "order_state"])
def test_archived_order_of_a_person_is_sent(column: str) -> None:
    assert isinstance(mapped({column: "archived"}), dict)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("deletedAt", {"$date": "2025-11-05T14:30:00Z"}),  # MongoDB
        ("deleted", {"BOOL": True}),  # DynamoDB
        ("consent", {"BOOL": False}),
        ("consent", {"S": "no"}),
        ("op", {"S": "d"}),
        ("unsubscribed", {"value": "true"}),  # HubSpot
    ],
)
def test_refusal_in_an_object_that_holds_a_value_counts(
    column: str, value: dict[str, object]
) -> None:
    held = {"type": "object", "properties": dict.fromkeys(value, TEXT)}
    mapping = a_map(a_shape("rows", {"email": TEXT, column: held}, ()))

    assert mapping.why_filtered({"email": "ada@acme.com", column: value})
    assert not mapping.why_filtered({"email": "ada@acme.com", column: None})


def test_channel_may_be_the_text_of_a_permission() -> None:
    properties = {"email": TEXT, "marketing_permissions": {"type": "array"}}
    mapping = a_map(a_shape("members", properties, ()))

    def reason(text: str) -> str | None:
        permission = {"text": text, "enabled": False}
        return mapping.why_filtered({"marketing_permissions": [permission]})

    assert reason("Email")
    assert not reason("Direct mail")


def test_private_field_of_a_named_object_is_left_out_with_a_warning() -> None:
    profile = {"plan": "pro", "ssn": "1", "keys": {"api_key": "k", "n": 1}}
    shape = a_shape("rows", {"email": TEXT, "profile": {"type": "object"}}, ())
    mapping = a_map(shape, properties=["profile"])

    signal = mapping.signal_from({"email": "ada@acme.com", "profile": profile})

    assert signal.properties == {"profile.plan": "pro", "profile.keys.n": 1}
    assert mapping.hidden.private == {"profile.ssn", "profile.keys.api_key"}
    by_name = a_map(shape, properties={"ssn": "{{ profile.ssn }}"})
    assert by_name.signal_from({"profile": profile}).properties == {"ssn": "1"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"p": "{{ profile }}"}, {"p.plan": "pro"}),
        ({"p": {"ssn": "{{ profile }}"}}, {"p.ssn.plan": "pro"}),
        (["profiles"], {"profiles": '[{"plan":"pro"}]'}),
        ({"p": "{{ profiles }}"}, {"p": '[{"plan":"pro"}]'}),
        ({"p": "{{ profiles[0] }}"}, {"p.plan": "pro"}),
    ],
)
def test_private_field_of_an_object_of_a_template_or_a_list_is_left_out(
    properties: object, expected: dict[str, str]
) -> None:
    profile = {"plan": "pro", "ssn": "1"}
    columns = {"email": TEXT, "profile": {}, "profiles": {}}
    mapping = a_map(a_shape("rows", columns, ()), properties=properties)

    signal = mapping.signal_from({"profile": profile, "profiles": [profile]})

    assert signal.properties == expected
    assert mapping.hidden.private


def test_object_that_is_nested_too_deeply_makes_the_record_invalid() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    mapping = a_map(a_shape("rows", {"profile": {}}, ()), properties=["profile"])

    with pytest.raises(InvalidSignalError, match="nested too deeply"):
        mapping.signal_from({"profile": deep})


@pytest.mark.parametrize(
    "no",
    ["no", "false", "0", "N", " off ", "Nej", "n\xe3o", "\u043d\u0435\u0442", "never"],
)
def test_condition_that_gives_a_text_for_no_does_not_hold(no: str) -> None:
    mapping = a_map(
        a_shape("rows", {"email": TEXT, "opted_in": TEXT}, ()), when="opted_in"
    )

    assert mapping.why_filtered({"opted_in": no})
    assert not mapping.why_filtered({"opted_in": "yes"})


NEVER = [
    *("2099-01-01", "2150-06-01T00:00:00Z", "2999-12-31", "9999-12-31", "0000-00-00"),
    *("0001-01-01T00:00:00+14:00", "1970-01-01 00:00:00", "1900-01-01", "-infinity"),
    *("12/31/9999 23:59", "31/12/9999", "31.12.2999", 253402300799, 253402214400000),
]


@pytest.mark.parametrize("never", NEVER)
def test_condition_that_gives_a_placeholder_for_never_does_not_hold(
    never: object,
) -> None:
    columns = {"email": TEXT, "deleted_at": TEXT}
    mapping = a_map(a_shape("rows", columns, ()), when="not deleted_at")

    assert not mapping.why_filtered({"deleted_at": never})
    for time in ("2026-01-01", "2098-12-31", "1965-05-01", "1970-05-01", 4102444800):
        assert mapping.why_filtered({"deleted_at": time})


def test_rule_is_the_condition_that_suggest_prints() -> None:
    properties = dict.fromkeys(["email", "is_deleted", "gdpr_consent"], TEXT)
    text = "not (is_deleted | opted_out or gdpr_consent | refused)"
    inferred = a_map(a_shape("rows", properties, ()))
    mapping = a_map(a_shape("rows", properties, ()), when=text)

    assert inferred.origins["when"].template == text
    for deleted in (True, False, None):
        for consent in (True, False, None):
            record = {"is_deleted": deleted, "gdpr_consent": consent}
            found = {bool(m.why_filtered(record)) for m in (mapping, inferred)}
            assert len(found) == 1


NO = [
    False,
    0.0,
    "nem",
    "\u2610",
    "\u274c",
    "\u2717",
    "false",
    "FALSE",
    "0",
    "no",
    "N",
    "f",
    "off",
]
BLANK: list[Any] = [
    None,
    "",
    "  ",
    "N/A",
    "0000-00-00 00:00:00",
    "1970-01-01",
    "2100-01-01",
    "infinity",
    [],
    {},
]


PLACEHOLDERS = ["1969-12-31T19:00:00", "31.12.2099", 4102444800, "4102444800.0"]


@pytest.mark.parametrize("value", [*NO, *BLANK, *NEVER, *PLACEHOLDERS])
def test_value_that_does_not_opt_out(value: object) -> None:
    assert not opted_out(value)


@pytest.mark.parametrize("mark", ["\u2713", "\u2714\ufe0f", "\u2611", "\u2705", "\xd7"])
def test_mark_in_a_box_opts_out_and_does_not_refuse(mark: str) -> None:
    assert opted_out(mark)
    assert not refused(mark)


@pytest.mark.parametrize("value", [True, 1, "yes", "granted", "2024-01-01", *BLANK])
def test_value_that_does_not_refuse(value: object) -> None:
    assert not refused(value)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("status", "unsubscribed", "by `status | unsubscribed`"),
        ("list_status", "Opted_Out", "by `list_status | unsubscribed`"),
        ("_change_type", "delete", "by `_change_type | unsubscribed`"),
        ("_sdc_operation", "DELETE", "by `_sdc_operation | unsubscribed`"),
        ("member_state", "unsubscribed", "by `member_state | unsubscribed`"),
        ("email_status", "hard_bounce", "by `email_status | refused`"),
        ("marketing_status", "no_consent", "by `marketing_status | refused`"),
        *(
            ("status", value, "by `status | unsubscribed`")
            for value in (
                "deleted",
                "Erased",
                "anonymized",
                "suppressed",
                "blacklisted",
                "unsub",
                "DNC",
                "opted out (2026-01-01)",
                "cleaned",
                "complained",
                "hard_bounce",
                "Hard Bounce",
                "opt-out",
                "Unsubscribed: by mail",
                "unsubscribed via link",
                "Gelöscht",
                "отписан",
            )
        ),
        *(
            ("marketing_consent", value, "by `marketing_consent | refused`")
            for value in (
                "never_subscribed",
                "not given",
                "disagree",
                "not consented",
                "none",
                "invalid",
                "redacted",
                '{"state": "not_subscribed"}',
                "Not granted (2)",
                "No (by phone)",
                "Nein, danke",
                "Não",
                "нет",
                '{"marketing": {"consent": "no"}}',
                "unsubscribed",
                "refusé",
                "withdrawn on 2024-01-01",
                "Opted out by phone",
                "revoked 2024",
                "verweigert",
                "hay\u0131r",
                "否",
                "\u274c",
                "\u2718\ufe0f",
                "\u2610",
            )
        ),
        ("marked_email_as_spam", True, "by `marked_email_as_spam | opted_out`"),
        (
            "email_marketing_consent",
            {"state": "not_subscribed"},
            "by `email_marketing_consent | refused`",
        ),
    ],
)
def test_status_that_says_no_filters_a_record(
    column: str, value: object, reason: str
) -> None:
    nested = {"type": "object", "properties": {"state": TEXT}}
    schema = nested if isinstance(value, dict) else TEXT
    shape = a_shape("rows", {"email": TEXT, column: schema}, ())

    assert a_map(shape).why_filtered({"email": "a@acme.com", column: value}) == reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "active"),
        ("status", "withdrawn"),
        ("state", "OUT"),
        ("deal_status", "rejected"),
        ("sms_consent", False),
        ("email_marketing_consent", {"state": "subscribed"}),
        ("sms_marketing_consent", {"state": "not_subscribed"}),
    ],
)
def test_other_status_filters_nothing(column: str, value: object) -> None:
    assert isinstance(mapped({column: value}), dict)


def nested(value: object) -> dict[str, Any]:
    """Return the JSON Schema of a value."""
    if isinstance(value, dict):
        inner = {name: nested(part) for name, part in value.items()}
        return {"type": ["object", "null"], "properties": inner}
    return {"type": ["array", "null"]} if isinstance(value, list) else TEXT


KLAVIYO = {"can_receive_email_marketing": True, "suppression": []}
NESTED_REFUSALS: list[dict[str, Any]] = [
    {"consent": {"marketing": False}},
    {"consent": {"status": "withdrawn"}},
    {"consent": {"email": {"value": "no"}, "sms": True}},
    {"gdpr": {"consent": False}},
    {"marketing": {"consent": False}},
    {"gdpr": {"consents": {"newsletter": "denied"}}},
    {"preferences": {"unsubscribed": True}},
    {"email_preferences": {"marketing_emails": False}},
    {"communicationPreferences": {"doNotContact": "yes"}},
    {"privacy": {"marketing": {"allowed": False}}},
    {"marketing_permissions": {"email": False}},
    {"consents": [{"type": "sms", "granted": True}, {"type": "email", "granted": 0}]},
    {"consent": '{"marketing": false}'},
    {"subscriptions": {"email": {"marketing": {**KLAVIYO, "consent": "UNSUBSCRIBED"}}}},
    {
        "subscriptions": {
            "email": {"marketing": {**KLAVIYO, "suppression": [{"reason": "BOUNCED"}]}}
        }
    },
    {"subscriptions": {"email": {"marketing": {"can_receive_email_marketing": False}}}},
    {"settings": {"unsubscribed": True}},
    {"email_settings": {"status": "unsubscribed"}},
    {"notificationSettings": {"doNotContact": "yes"}},
    {"metadata": {"marketing_consent": "no"}},
    {"metadata": '{"unsubscribed": true}'},
    {"custom_fields": {"opt_out": "1"}},
    {"flags": {"do_not_contact": True}},
    {"unsubscribed": {"email": True, "sms": False}},
    {"unsubscribed": {"at": "2026-01-01"}},
    {"unsubscribed": {"value": None, "at": "2026-01-01"}},
    {"unsubscribed": {"active": True, "since": "2024-01-01"}},
    {"opt_out": {"answer": "yes"}},
    {"custom_attributes": {"opted_out": True}},
    {"user_fields": {"opted_out": True}},
    {"app_metadata": {"opt_out": True}},
    {
        "custom_fields": [
            {"name": "plan", "value": 1},
            {"name": "opt_out", "value": "yes"},
        ]
    },
    {"metadata": '[{"key": "unsubscribed", "value": true}]'},
    {"settings": {"email": {"unsubscribed": True}}},
    {"unsubscribed": {"is_unsubscribed": True, "reason": "x"}},
    {"consent": "No, thanks"},
    {"email_subscribe": "unsubscribed"},
    {"consent_marketing": False},
    {"subscriptions__email__marketing__consent": "NEVER_SUBSCRIBED"},
]
NESTED_OTHERS: list[dict[str, Any]] = [
    {"consent": {"marketing": True, "sms": False, "analytics": "no"}},
    {"consent": {"date": "0", "source": "none", "by": None}},
    {"gdpr": {"consent": True}},
    {"gdpr": False},
    {
        "preferences": {
            "language": "no",
            "dark_mode": False,
            "phone": {"consent": False},
        }
    },
    {"consents": [{"type": "sms", "granted": False}, {"type": "email", "granted": 1}]},
    {"subscription": {"status": "expired", "email": False}},
    {"subscriptions": {"sms": {"marketing": {"consent": "UNSUBSCRIBED"}}}},
    {"subscriptions": {"email": {"marketing": {**KLAVIYO, "consent": "SUBSCRIBED"}}}},
    {"consent": "{"},
    {"account": {"gdpr": {"consent": False}}},
    {"notification_settings": {"email": False, "push": True}},
    {"metadata": {"sms_opt_out": True, "source": "no"}},
    {"flags": ["unsubscribed_page"]},
    {"product": {"is_deleted": True}},
    {"unsubscribed": {"email": False, "sms": True}},
    {"unsubscribed": {"value": False, "updated_at": "2026-01-01"}},
    {"hs_email_optout": {"value": "false", "timestamp": 1_700_000_000, "by": "CRM"}},
    {"suppressions": {"id": 7, "items": []}},
    {"unsubscribed_from_emails": False, "unsubscribed_from_sms": True},
    {"unsubscribed": {"is_unsubscribed": False, "email": "ada@acme.com"}},
    {"unsubscribed": {"status": False, "email": "ada@acme.com"}},
    {"opt_out": {"is_opted_out": False, "timestamp": 1_700_000_000}},
    {"settings": {"unsubscribe": "https://a.com/u"}},
    {"custom_fields": [{"title": "Plan", "value": "pro", "archived": True}]},
    {"custom_fields": [{"name": "Do not contact", "value": ["No"]}]},
    {"opt_out": {"label": "No", "id": 2, "created_at": "2024-01-01"}},
    {"settings": {"tracking_opt_out": True, "beta_opt_out": True}},
    {"custom_fields": [{"name": "opt_out", "value": "no"}, {"name": "opted out?"}]},
]


@pytest.mark.parametrize("around", ["", "attributes", "properties", "customer"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_refusal_inside_an_object_filters_a_record(
    around: str, *, is_listed: bool
) -> None:
    for columns in (*NESTED_REFUSALS, *NESTED_OTHERS):
        record: dict[str, Any] = {"email": "ada@acme.com", **columns}
        record = {around: record} if around else record
        properties = nested(record)["properties"]
        if not is_listed and around:
            properties[around] = {"type": "object"}
        mapping = a_map(a_shape("rows", properties if is_listed or around else {}, ()))

        is_filtered = bool(mapping.why_filtered(record))
        assert is_filtered is (columns in NESTED_REFUSALS), columns


def test_refusals_of_two_people_are_not_mixed() -> None:
    refusing = {"email": "ada@acme.com", "consent": {"marketing": False}}
    wanting = {"email": "bob@acme.com", "consent": {"marketing": True}}
    record = {"customer": wanting, "user": refusing}
    mapping = a_map(a_shape("rows", nested(record)["properties"], ()))

    assert not mapping.why_filtered(record)
    assert not mapping.why_filtered({"customer": wanting, "user": {"consent": False}})
    assert mapping.why_filtered({"customer": refusing}) == (
        "by `customer.consent | refused`"
    )


@pytest.mark.parametrize("customer", ["customer", ""])
@pytest.mark.parametrize("email", ["ada@acme.com", " ADA@acme.com"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_refusal_in_another_object_about_the_same_person_filters_a_record(
    customer: str, email: str, *, is_listed: bool
) -> None:
    person = {"email": "ada@acme.com", "name": "Ada"}
    user = {"email": email, "unsubscribed": True}
    record = {**({customer: person} if customer else person), "user": user}
    properties = nested(record)["properties"]
    if not is_listed:
        properties["user"] = {"type": "object"}
    mapping = a_map(a_shape("rows", properties, ()))

    assert mapping.why_filtered(record)
    assert not mapping.why_filtered({**record, "user": {**user, "unsubscribed": "no"}})


@pytest.mark.parametrize("role", ["customer", "contact", "lead", "person"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_refusal_of_a_person_beside_the_address_filters_a_record(
    role: str, *, is_listed: bool
) -> None:
    record = {"email": "ada@acme.com", role: {"name": "Ada", "unsubscribed": True}}
    properties = nested(record)["properties"]
    if not is_listed:
        properties[role] = {"type": "object"}
    mapping = a_map(a_shape("rows", properties, ()))

    assert mapping.why_filtered(record)


ORDINARY: list[tuple[str, object]] = [
    *(("subscription_status", v) for v in ("none", "expired", "pending", "canceled")),
    ("payment_status", "bounced"),
    ("order_status", "deleted"),
    ("ticketStatus", "spam"),
    ("post_status", "trash"),
    ("delivery_status", "bounced"),
    ("status", "bounced"),
    ("sms_status", "unsubscribed"),
    ("phone_status", "DNC"),
    ("push_opt_in", False),
    ("whatsapp_opt_in", False),
    ("push_opt_out", True),
    ("beta_opt_in", False),
    ("dnc_status", "Clear"),
    ("dnc", "No match"),
    ("deleted_at", "9999-12-31"),
    ("deleted_at", "9999-12-31T23:59:59Z"),
    ("subscriptions", [{"id": 1, "status": "expired"}]),
    ("subscriptions", [{"id": 1, "status": "pending", "enabled": False}]),
    ("subscriptions", [{"plan": "pro", "value": 0}]),
    ("privacy_settings", {"all": False}),
    ("user_preferences", {"enabled": False, "theme": "dark"}),
    ("preferences", {"status": "pending"}),
]


@pytest.mark.parametrize(("column", "value"), ORDINARY)
def test_ordinary_column_of_a_shop_or_a_service_filters_nothing(
    column: str, value: object
) -> None:
    shape = a_shape("rows", {"email": TEXT, column: {}}, ())

    assert a_map(shape).why_filtered({"email": "a@acme.com", column: value}) == ""


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subscription_status", "unsubscribed"),
        ("subscription_status", "never_subscribed"),
        ("mailchimp_status", "unsubscribed"),
        ("customer_status", "deleted"),
        ("profile_status", "unsubscribed"),
        ("campaign_member_status", "unsubscribed"),
        ("hs_lead_status", "Do not contact"),
        ("contact_privacy_status", "opted out"),
        ("is_subscribed", False),
        ("email_preferences", {"enabled": False}),
        ("marketing_preferences", {"allowed": False}),
        ("status", "cleaned"),
        ("email_status", "bounced"),
        ("newsletter_status", "none"),
        ("subscriptions", {"email": {"marketing": {"consent": "UNSUBSCRIBED"}}}),
        ("subscriptions", [{"type": "email", "status": "unsubscribed"}]),
        ("preferences", {"email": {"enabled": False}}),
        ("consent", {"status": "denied"}),
    ],
)
def test_refusal_of_emails_filters_a_record(column: str, value: object) -> None:
    shape = a_shape("rows", {"email": TEXT, column: {}}, ())

    assert a_map(shape).why_filtered({"email": "a@acme.com", column: value})


def test_refusal_in_a_column_that_the_schema_lacks_filters_a_record() -> None:
    mapping = a_map(a_shape("rows", {"email": TEXT}, ()))
    record = {"email": "a@acme.com", "unsubscribed": "yes"}

    assert mapping.may_filter(tuple(record))
    assert mapping.why_filtered(record) == "by `unsubscribed | opted_out`"
