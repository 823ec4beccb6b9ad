"""`stairoids-signals check` and `ledger stats`, and rules for all commands."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from stairoids_sandbox import Fault
from target_stairoids.cli.main import main
from tests.support.commands import command, signals
from tests.support.singer_io import BIN, a_record, a_schema, text_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

READS_THE_LEDGER = [
    ("dead-letters", "list"),
    ("dead-letters", "export"),
    ("report",),
    ("ledger", "stats"),
]


@pytest.mark.slow
def test_command_in_a_pipe_prints_a_plain_table(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email=None))
    (target.folder / "config.json").write_text(json.dumps(target.config))

    done = subprocess.run(
        [BIN / "stairoids-signals", "ledger", "stats", "--config", "config.json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=target.folder,
        env={**os.environ, "COLUMNS": "20", "FORCE_COLOR": "1"},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "stream  outcome   signals",
        "trials  accepted        1",
        "trials  invalid         1",
        "",
        f"Ledger {target.config['ledger_url']}",
    ]


@pytest.mark.slow
def test_command_of_the_shell_fails_with_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "stairoids-signals", "ledger", "stats", "--config", "config.json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("Error: config.json: no such file. [E")


def waiting_in(pipe: int) -> bytes:
    count: bytes = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return count.rstrip(b"\0")


@pytest.mark.slow
def test_pipe_that_does_not_wait_gets_the_whole_output() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as some parents leave it
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)

    with subprocess.Popen([BIN / "stairoids-signals", "schema"], stdout=writer) as run:
        os.close(writer)
        wait_until(lambda: waiting_in(reader) == b"\0\x10")  # 4096 bytes
        with os.fdopen(reader, encoding="utf-8") as printed:
            text = printed.read()

    assert (run.returncode, json.loads(text)["type"]) == (0, "object")


@pytest.mark.parametrize(
    "words", [("check",), ("ledger", "stats"), ("dead-letters", "list")], ids=" ".join
)
def test_command_without_config_is_a_usage_error(words: tuple[str, ...]) -> None:
    done = command(*words)

    assert done.returncode == 2
    assert "--config" in done.stderr


@pytest.mark.parametrize("words", READS_THE_LEDGER, ids=" ".join)
def test_missing_ledger_is_an_error_and_is_not_created(
    target: TargetUnderTest, words: tuple[str, ...]
) -> None:
    path = target.folder / "elsewhere" / "ledger.db"

    done = signals(target, *words, ledger_url=f"sqlite:///{path}")

    assert done.returncode == 1
    assert done.stdout == ""
    assert f"There is no ledger at {path}. Relative paths" in done.stderr
    assert "The first run of the target creates a ledger." in done.stderr
    assert not path.parent.exists()


def test_table_ends_with_the_name_of_the_ledger(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    for words in (("report",), ("ledger", "stats"), ("dead-letters", "list")):
        last = signals(target, *words).stdout.splitlines()[-1]
        assert last == f"Ledger {target.config['ledger_url']}"


def test_stats_count_settled_signals_and_dead_letters(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1), a_record(2), a_record(3, email=None))

    done = signals(target, "ledger", "stats", "--format", "json")

    assert json.loads(done.stdout) == {"trials": {"accepted": 2, "invalid": 1}}


def test_check_passes(target: TargetUnderTest) -> None:
    done = signals(target, "check")

    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["config", "ledger", "api", "key"]
    assert f"api      {target.config['api_url']} responds\n" in done.stdout
    assert "The key is known and may read." in done.stdout


def test_check_fails_for_an_unknown_key(target: TargetUnderTest) -> None:
    done = signals(target, "check", api_key="sk_canary")

    assert done.returncode == 1
    assert "Stairoids refuses the request: 401 " in done.stderr
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("status", [403, 404])
def test_check_passes_for_a_key_that_cannot_read(
    sandbox: Sandbox, target: TargetUnderTest, status: int
) -> None:
    sandbox.faults.add(Fault(kind="status", status=status, on="read"))

    done = signals(target, "check")

    assert done.returncode == 0
    assert f"The response to a read was {status} " in done.stdout


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_check_during_an_outage_says_that_the_key_is_not_checked(
    sandbox: Sandbox, target: TargetUnderTest, status: int
) -> None:
    sandbox.faults.add(Fault(kind="status", status=status, on="read"))

    done = signals(target, "check")

    assert done.returncode == 75
    assert f"The key cannot be checked: {status} " in done.stderr
    assert "Run again later." in done.stderr


def test_check_names_a_misspelt_setting(target: TargetUnderTest) -> None:
    done = signals(target, "check", api_kee="sk_canary")

    assert done.returncode == 1
    assert "`api_kee` is not a setting; did you mean `api_key`?" in done.stderr
    assert "canary" not in done.stderr


def test_each_mistake_in_a_config_is_a_sentence_on_its_own_line(
    target: TargetUnderTest,
) -> None:
    target.config["apikey"] = target.config.pop("api_key")
    target.config["signals"] = [{"name": "x", "send": "daily", "emial": None}]

    done = signals(target, "check")

    assert done.stderr.splitlines() == [
        "Error: `apikey` is not a setting; did you mean `api_key`?",
        "    `signals[0].emial` is not a setting.",
        "    `signals[0].send` must be one of always, on_change or once.",
        "    `signals[0].stream` is required.",
        "    `api_key` is required. Set it in the config, or as STAIROIDS_API_KEY.",
    ]


def test_check_fails_if_the_api_cannot_be_reached(target: TargetUnderTest) -> None:
    done = signals(target, "check", api_url="http://127.0.0.1:1/v1")

    assert done.returncode == 75
    assert "http://127.0.0.1:1/v1 cannot be reached" in done.stderr
    assert "`api_url`" in done.stderr


@pytest.mark.parametrize(
    ("item", "mistake"),
    [
        ({"contact": {"email": "{{ email | }}"}}, "`contact.email` of its mapping: "),
        ({"account": {"name": "{% if x %}"}}, "`account.name` of its mapping: "),
        ({"when": "plan ="}, "`when` of its mapping: unexpected"),
        ({"suppress": "{{ email | emial }}"}, "there is no filter `emial`"),
        ({"properties": {"a": {"b": ["{{ c"]}}}, "`properties.a.b` of its mapping: "),
        ({"properties": ["{{ c", {"a": "{{ b"}]}, "`properties.a` of its mapping: "),
        ({"source": "{{ " + "(" * 99}, "the template is nested too deeply"),
        ({"contact": {"email": "email"}}, "`email` is not an email address"),
        ({"account": {"domain": "acme"}}, "`acme` is not a domain such as example.com"),
        ({"suppress": "a@b.com"}, "`suppress` of its mapping reads no column"),
    ],
)
def test_check_finds_a_mistake_in_a_mapping_without_a_catalog(
    target: TargetUnderTest, item: dict[str, Any], mistake: str
) -> None:
    done = signals(target, "check", signals=[{"stream": "*", **item}])

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Stream `*`: `")
    assert mistake in done.stderr


def test_check_finds_a_mapping_that_is_hidden_by_a_glob(
    target: TargetUnderTest,
) -> None:
    done = signals(target, "check", signals=[{"stream": "*"}, {"stream": "trials"}])

    assert done.returncode == 1
    assert "The mapping of stream `trials` in `signals` is never used" in done.stderr


@pytest.mark.parametrize("stream", ["trials", "*"])
def test_check_finds_two_mappings_with_one_name(
    target: TargetUnderTest, stream: str
) -> None:
    items = [{"stream": stream, "type": "trial"}] * 2

    done = signals(target, "check", signals=items)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"Stream `{stream}`: two mappings are named `trial`" in done.stderr


@pytest.mark.parametrize(
    "stream_map",
    [
        {"email": "email.lower("},
        {"__filter__": "id =="},
        {"email": "email.lower() if emial else lowr(email)"},
        {"__alias__": "1 +"},
        {"__else__": None, "__key_properties__": ["id"], "email": "email"},
    ],
)
def test_check_finds_a_stream_map_that_is_wrong_for_any_columns(
    target: TargetUnderTest, stream_map: dict[str, Any]
) -> None:
    done = signals(target, "check", stream_maps={"trials": stream_map})

    assert (done.returncode, done.stdout) == (1, "")
    assert "Stream `trials`: its `stream_maps` in the config are wrong" in done.stderr


@pytest.mark.parametrize(
    "stream_map",
    [
        {"__source__": "trials", "__key_properties__": ["number"], "number": "id"},
        {"__key_properties__": ["id"], "plan": None, "__filter__": "plan != 'free'"},
        {"__alias__": "leads", "__key_properties__": None},
        "__NULL__",
    ],
)
def test_check_passes_for_a_stream_map_whose_columns_it_does_not_know(
    target: TargetUnderTest, stream_map: object
) -> None:
    done = signals(target, "check", stream_maps={"trials*": stream_map})

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [("check", "--catalog"), ("preview",)])
def test_command_finds_a_stream_map_whose_stream_is_misspelt(
    target: TargetUnderTest, words: tuple[str, ...]
) -> None:
    messages = target.folder / "messages.jsonl"
    messages.write_text(text_of([a_schema(), a_record(1)]))

    done = signals(target, *words, str(messages), stream_maps={"trails": {}})

    assert done.returncode == 1
    assert "`trails` is nearly the stream `trials`" in done.stderr


def test_check_passes_for_columns_that_only_a_catalog_knows(
    target: TargetUnderTest,
) -> None:
    item = {
        "stream": "*",
        "contact": {"email": "{{ record['e-mail'] }}"},
        "key": ["id", "user.id"],
        "properties": ["a {b", {"plan": "{{ plan }}", "fixed": "fixed", "number": 1}],
        "when": "plan != 'free'",
    }

    done = signals(target, "check", signals=[item])

    assert done.returncode == 0, done.stderr


CATALOG = {
    "streams": [
        {
            "tap_stream_id": "crm-contacts",
            "schema": {"properties": {"id": {}, "email": {"type": "string"}}},
            "metadata": [
                {"breadcrumb": [], "metadata": {"table-key-properties": ["id"]}}
            ],
        }
    ]
}


@pytest.fixture
def catalog(target: TargetUnderTest) -> Path:
    path = target.folder / "catalog.json"
    path.write_text(json.dumps(CATALOG))
    return path


def test_check_of_a_catalog_sends_nothing(
    target: TargetUnderTest, sandbox: Sandbox, catalog: Path
) -> None:
    done = signals(target, "check", "--catalog", catalog)

    assert done.returncode == 0, done.stderr
    assert "mapping  fits 1 stream" in done.stdout
    assert (
        "crm-contacts -> crm-contacts: by account.domain, contact.email" in done.stdout
    )
    assert sandbox.signals == []


def test_check_reads_messages_with_numbers_of_any_number_of_digits(
    target: TargetUnderTest,
) -> None:
    record = '{"type": "RECORD", "stream": "trials", "record": {"id": %s}}' % (
        "9" * 5_000
    )
    path = target.folder / "messages.jsonl"
    path.write_text(f"{json.dumps(a_schema())}\n{record}\n", encoding="utf-8")

    done = signals(target, "check", "--catalog", path)

    assert "mapping  fits 1 stream\n" in done.stdout


def test_check_leaves_out_a_stream_that_the_catalog_deselects(
    target: TargetUnderTest, catalog: Path
) -> None:
    metadata = [{"breadcrumb": [], "metadata": {"selected": False}}]
    left_out = {**CATALOG["streams"][0], "stream": "other", "metadata": metadata}
    catalog.write_text(json.dumps({"streams": [*CATALOG["streams"], left_out]}))

    done = signals(target, "check", "--catalog", catalog)

    assert "mapping  fits 1 stream" in done.stdout
    assert "other" not in done.stdout


def test_check_fails_for_a_mapping_that_does_not_fit_the_catalog(
    target: TargetUnderTest, catalog: Path
) -> None:
    items: list[dict[str, Any]] = [{"stream": "*", "contact": {"email": "{{ emial }}"}}]

    done = signals(target, "check", "--catalog", catalog, signals=items)

    assert done.returncode == 1
    assert "did you mean `email`?" in done.stderr


@pytest.mark.parametrize("text", ['{"streams": []}', '{"type": "STATE", "value": {}}'])
def test_check_refuses_a_catalog_without_streams(
    target: TargetUnderTest, catalog: Path, text: str
) -> None:
    catalog.write_text(text)

    done = signals(target, "check", "--catalog", catalog)

    assert done.returncode == 1
    assert "The catalog or messages of --catalog have no stream." in done.stderr


def test_check_reads_messages_with_the_line_separator_of_unicode(
    target: TargetUnderTest, catalog: Path
) -> None:
    record = json.dumps(a_record(1, plan="a\u2028b"), ensure_ascii=False)
    schema = json.dumps(a_schema())  # a tap may repeat it
    catalog.write_text(f"{schema}\n{record}\n{schema}\n")

    done = signals(target, "check", "--catalog", catalog)

    assert done.returncode == 0, done.stderr
    assert "mapping  fits 1 stream" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--catalog", "FILE"),
        ("preview", "FILE", "--against", "CONFIG"),
        ("send", "FILE", "--limit", "1"),
        ("test", "FILE"),
    ],
    ids=lambda words: words[0],
)
def test_file_that_is_not_utf8_is_one_sentence(
    target: TargetUnderTest, words: tuple[str, ...]
) -> None:
    path = target.folder / "messages.jsonl"
    path.write_text(text_of([a_schema(), a_record(1)]), encoding="utf-16")
    places = {"FILE": path, "CONFIG": target.folder / "config.json"}

    done = signals(target, *(places.get(word, word) for word in words))

    assert done.returncode == 1
    assert done.stderr.startswith("Error: The input is not text in UTF-8.")


@pytest.mark.parametrize("text", ["", "[]", "hello", '{"streams": [{}]}', "[1]"])
def test_check_refuses_a_file_that_is_no_catalog(
    target: TargetUnderTest, catalog: Path, text: str
) -> None:
    catalog.write_text(text)

    done = signals(target, "check", "--catalog", catalog)

    assert done.returncode == 1
    assert "The file of --catalog is neither a catalog" in done.stderr


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--config", "other.json", "ledger", "stats"], {}),
        (["ledger", "--config", "other.json", "stats"], {}),
        (["ledger", "stats", "--config", "other.json"], {}),
        (["--config", "x.json", "ledger", "stats", "--config", "other.json"], {}),
        (["ledger", "stats"], {"STAIROIDS_CONFIG": "other.json"}),
        (["ledger", "stats"], {"STAIROIDS_CONFIG": '"other.json"\r'}),
        (["ledger", "stats"], {}),
    ],
    ids=str,
)
def test_config_of_a_command_is_found(
    target: TargetUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    env: dict[str, str],
) -> None:
    target.run(a_schema(), a_record(1))
    name = "other.json" if env or "--config" in words else "config.json"
    (target.folder / name).write_text(json.dumps(target.config))
    monkeypatch.chdir(target.folder)

    done = CliRunner().invoke(main, words, env=env)

    assert done.exit_code == 0, done.stderr
    assert "trials  accepted        1" in done.stdout


def test_unknown_log_level_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGLEVEL", "chatty")

    done = CliRunner().invoke(main, ["suggest"], input="")

    assert done.exit_code == 1
    assert (
        "Error: `LOGLEVEL` must be DEBUG, INFO, WARNING or ERROR. [E482]" in done.stderr
    )


@pytest.mark.slow
def test_help_loads_no_slow_module() -> None:
    code = (
        "import sys, target_stairoids.cli.main as _;"
        "heavy = {'singer_sdk', 'sqlalchemy', 'requests', 'rich'};"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"
