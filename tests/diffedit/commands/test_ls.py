"""`diffedit ls` shows every yaml of every group, what it is, what its weights are under, what papers report."""

import json
import subprocess
import sys

import pytest
from helpers import CONF, ROOT

from diffedit.commands.ls import GROUPS, WIDTH, main

TRAINING = "training"  # of this project's own networks: no choice of a user


def listed(capsys, *argv):
    assert main([*argv, "--json"]) == 0
    return {(choice["group"], choice["name"]): choice for choice in json.loads(capsys.readouterr().out)}


def test_every_choice_is_listed_with_a_description(capsys):
    files = {
        (path.parent.relative_to(CONF).as_posix(), path.stem)
        for path in CONF.rglob("*/**/[!_]*.yaml")
        if path.parent.name != TRAINING
    }
    choices = listed(capsys)
    assert set(choices) == files
    assert all(len(choice["description"]) > 10 for choice in choices.values())
    assert not any(choice["description"].startswith(("#", "@", "_target_")) for choice in choices.values())


def test_licences_stand_where_weights_are_loaded_and_nowhere_else(capsys):
    choices = {key: choice["licence"] for key, choice in listed(capsys).items()}
    assert choices["backbone", "sd15"] == "CreativeML Open RAIL-M"
    assert choices["backbone", "stilllife"] == choices["networks", "stilllife"] == "MIT"
    assert choices["backbone", "analytic"] == choices["editor", "diffedit"] == ""
    assert choices["backbone", "stable_diffusion"] == "that of the weights you name"
    assert "AlexNet: " in choices["networks", "photographs"]
    assert "SqueezeNet 1.1: " in choices["networks", "pie_bench"]  # over what it takes from photographs
    assert "AlexNet" not in choices["networks", "pie_bench"]


def test_published_values_are_of_the_experiments_own_method(capsys):
    published = {name: choice["published"] for (_, name), choice in listed(capsys, "experiments").items()}
    assert published["imagenet_tradeoff"] == "published: DiffEdit at r = 0.5: lpips 0.181, csfid 40.2"
    assert published["imagenet_tradeoff_bounds"].startswith("published: Copy, FlexIT's table: lpips 0, csfid 106")
    assert published["bld_table"].startswith("published: Blended Latent Diffusion: precision 0.2866")
    assert published["bld_table_pixel"].startswith("published: Blended Diffusion: precision 0.104")
    assert published["ablation_guidance"] == ""


def test_the_list_fits_the_terminal_and_one_group_is_enough(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.split()[0] for line in lines if line[:1].strip()] == list(GROUPS)
    assert main(["editors", "editor/mask"]) == 0
    out = capsys.readouterr().out
    assert "blended_latent_thin" in out
    assert "sd15" not in out


@pytest.mark.parametrize("option", ["--include", "--config-dir"])
def test_choices_of_ones_own(capsys, tmp_path, option):
    folder = tmp_path / "conf" if option == "--include" else tmp_path
    (folder / "editor").mkdir(parents=True)
    (folder / "editor" / "mine.yaml").write_text("# My own [method]\ndefaults: [sdedit, _self_]\n")
    (folder / "editor" / "copy.yaml").write_text("# Mine goes before\n_target_: mine.Copy\n")
    choices = listed(capsys, "editor", option, str(tmp_path))
    assert choices["editor", "mine"]["description"] == "My own [method]"
    assert choices["editor", "copy"]["description"] == "Mine goes before"
    assert ("editor", "diffedit") in choices


def test_unknown_names_are_refused(capsys, tmp_path):
    assert main(["sampler"]) == 2
    assert "sampler: no such group; there are editor, " in capsys.readouterr().err
    assert main(["--include", str(tmp_path)]) == 2
    assert f"{tmp_path}/conf: no such folder" in capsys.readouterr().err


def test_no_heavy_library_is_imported():
    program = (
        "import sys; from diffedit.commands.ls import main; main(['backbone']); "
        "print(sorted({'torch', 'pandas', 'diffusers', 'hydra', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_had_enough_is_no_error():
    command = [sys.executable, "-m", "diffedit", "ls", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
