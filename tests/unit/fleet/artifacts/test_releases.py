"""A release: the same tree is the same hash, secrets stay at home, and nothing is ever half staged."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.artifacts import source_tree
from fleet.artifacts.releases import Release, compute, stage
from fleet.base.errors import ReleaseError
from fleet.intake.travel import travel_table, travel_warnings


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path, files: dict[str, str]) -> Path:
    fill(folder, files)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def names(release: Release) -> set[str]:
    found = (path.relative_to(release.path).as_posix() for path in release.path.rglob("*"))
    return {name for name in found if not (release.path / name).is_dir() or (release.path / name).is_symlink()}


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    return fill(tmp_path / "project" / "workload", {"run.py": "print(1)\n"})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_release_is_staged_under_its_hash_with_workload_and_code(cache: Path, workload: Path, tmp_path: Path):
    code = fill(tmp_path / "mine", {"mind.py": "x = 1\n", "data/words.txt": "a"})
    release = stage(cache, [workload], code)
    assert release.path == cache / "releases" / release.hash
    assert len(release.hash) == 20
    assert names(release) == {"workload/run.py", "code/mind.py", "code/data/words.txt"}
    assert (release.path / "code/mind.py").read_text() == "x = 1\n"
    assert (release.changed, release.files, release.source) == (True, 3, str(code))


def test_without_a_source_only_the_workload_travels(cache: Path, workload: Path):
    assert names(stage(cache, [workload])) == {"workload/run.py"}


def test_staging_again_writes_nothing(cache: Path, workload: Path):
    first = stage(cache, [workload])
    before = {path: path.lstat().st_ctime_ns for path in cache.rglob("*")}
    again = stage(cache, [workload])
    assert (again.hash, again.changed) == (first.hash, False)
    assert {path: path.lstat().st_ctime_ns for path in cache.rglob("*")} == before


def test_a_preview_gives_the_hash_and_writes_nothing(cache: Path, workload: Path, tmp_path: Path):
    url = repository(tmp_path / "repo", {"a.py": "1"}).as_uri()
    planned = stage(cache, [workload], url, check=True)
    assert not cache.exists()
    assert planned.changed
    assert stage(cache, [workload], url).hash == planned.hash == compute(cache, [workload], url)


def test_the_hash_knows_neither_place_nor_time_nor_order_nor_umask(cache: Path, workload: Path, tmp_path: Path):
    files = {"b.py": "b", "a/z.py": "z", "a.py": "a", "a-b/c": "c"}
    one = fill(tmp_path / "one", files)
    two = fill(tmp_path / "elsewhere" / "two", dict(reversed(files.items())))
    for number, path in enumerate(two.rglob("*")):
        os.utime(path, (number, number))
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert compute(cache, [workload], one) == compute(cache, [workload], two)


@pytest.mark.parametrize("change", ["content", "name", "executable", "removed", "link", "moved"])
def test_the_hash_knows_every_change_that_matters(cache: Path, workload: Path, tmp_path: Path, change: str):
    code = fill(tmp_path / "mine", {"a": "1", "b": "2", "d/e": "3"})
    (code / "link").symlink_to("a")
    before = compute(cache, [workload], code)
    match change:
        case "content":
            (code / "a").write_text("2")
        case "name":
            (code / "a").rename(code / "c")
        case "executable":
            (code / "a").chmod(0o755)
        case "removed":
            (code / "b").unlink()
        case "link":
            (code / "link").unlink()
            (code / "link").symlink_to("b")
        case "moved":
            (code / "d/e").rename(code / "e")
    assert compute(cache, [workload], code) != before


def test_the_users_code_cannot_pass_for_the_workload(cache: Path, tmp_path: Path):
    one, two = fill(tmp_path / "1", {"a": "x"}), fill(tmp_path / "2", {"a": "y"})
    assert compute(cache, [one], two) != compute(cache, [two], one)


SECRETS = [
    *(
        ".env",
        ".env.local",
        "sub/.envrc",
        "prod.env",
        "tls.pem",
        "tls.KEY",
        "a.p12",
        "id_rsa",
        "id_ed25519.bak",
        ".netrc",
    ),
    *(
        "secrets.yml",
        "secrets/token",
        ".ssh/config",
        ".aws/credentials",
        ".vault_pass.txt",
        "vault_password",
        ".git-credentials",
    ),
    *(".venv/lib/x.py", "venv/x.py", "node_modules/x.js", "__pycache__/a.pyc", "a.pyc", "deep/er/.git/config"),
]


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked by git", "plain folder"])
def test_secrets_never_travel(cache: Path, workload: Path, tmp_path: Path, tracked: bool):
    code = fill(tmp_path / "mine", {"keep.py": "1", "environment.py": "2", "monkey": "3"})
    plain = [name for name in SECRETS if ".git/" not in name]
    fill(code, dict.fromkeys(plain if tracked else SECRETS, "hush"))
    if tracked:
        repository(code, {})
    release = stage(cache, [workload], code)
    assert names(release) == {"workload/run.py", "code/keep.py", "code/environment.py", "code/monkey"}
    assert not [path for path in cache.rglob("*") if path.is_file() and path.read_text() == "hush"]
    assert {"code/.env", "code/.ssh", "code/secrets.yml"} <= set(release.left_out)


def test_secrets_of_a_git_address_never_travel_either(cache: Path, workload: Path, tmp_path: Path):
    url = repository(tmp_path / "repo", {"keep.py": "1", ".env": "hush", "k/id_rsa": "hush"}).as_uri()
    assert names(stage(cache, [workload], url)) == {"workload/run.py", "code/keep.py"}


def test_in_a_git_work_tree_the_users_gitignore_is_honoured(cache: Path, workload: Path, tmp_path: Path):
    code = repository(tmp_path / "mine", {".gitignore": "*.log\nbig/\n", "a.py": "1", "gone.py": "2"})
    fill(code, {"run.log": "x", "big/data": "x", "new.py": "3", "sub/deep.log": "x"})
    (code / "gone.py").unlink()
    release = stage(cache, [workload], code)
    assert names(release) == {"workload/run.py", "code/.gitignore", "code/a.py", "code/new.py"}
    assert release.left_out == {
        "code/big": ".gitignore: big/",
        "code/run.log": ".gitignore: *.log",
        "code/sub/deep.log": ".gitignore: *.log",
    }


def test_a_person_is_told_what_travels_and_what_does_not(cache: Path, workload: Path, tmp_path: Path):
    code = repository(tmp_path / "mine", {".gitignore": "lib/\n", "a.py": "1", ".env": "hush"})
    fill(code, {"lib/x.py": "2", "venv/bin/python": "3"})
    release = stage(cache, [workload], code)
    assert travel_table(release).splitlines() == [
        f"code from {code}: 2 files, 6 bytes",
        "  left out: .env, venv (never sent)",
        "  left out: lib (.gitignore: lib/)",
    ]
    assert travel_warnings(release) == []
    (large,) = travel_warnings(replace(release, code_bytes=100_100_000))
    assert "100.1 MB go to every node" in large
    assert travel_table(stage(cache, [workload])) == ""


def test_a_folder_within_a_work_tree_travels_without_the_rest(cache: Path, workload: Path, tmp_path: Path):
    repo = repository(tmp_path / "repo", {".gitignore": "*.log\nout\n", "top.py": "1", "sub/a.py": "2"})
    fill(repo, {"sub/a.log": "x", "out/b.py": "3"})
    assert names(stage(cache, [workload], repo / "sub")) == {"workload/run.py", "code/a.py"}
    # Ignored as a whole, and still asked for by name.
    assert names(stage(cache, [workload], repo / "out")) == {"workload/run.py", "code/b.py"}


def test_a_submodule_honours_its_own_gitignore_and_one_that_is_not_there_is_named(
    cache: Path, workload: Path, tmp_path: Path
):
    inner = repository(tmp_path / "inner", {"i.py": "1", ".gitignore": "*.log"})
    outer = repository(tmp_path / "outer", {"o.py": "1"})
    git(outer, "submodule", "--quiet", "add", inner.as_uri(), "lib")
    git(outer, "commit", "--quiet", "--message=lib")
    fill(outer, {"lib/x.log": "x"})
    expected = {"workload/run.py", "code/o.py", "code/.gitmodules", "code/lib/i.py", "code/lib/.gitignore"}
    assert names(stage(cache, [workload], outer)) == expected
    git(tmp_path, "clone", "--quiet", outer.as_uri(), "bare")
    with pytest.raises(ReleaseError, match=r"lib: a submodule.*git submodule update"):
        stage(cache, [workload], tmp_path / "bare")
    with pytest.raises(ReleaseError, match="lib is a submodule"):
        stage(cache, [workload], outer.as_uri())


def test_a_git_address_gives_the_same_hash_as_its_work_tree(cache: Path, workload: Path, tmp_path: Path):
    repo = repository(
        tmp_path / "repo", {"a.py": "1", "run.sh": "#!/bin/sh\n", ".gitattributes": "*.py export-ignore text eol=crlf"}
    )
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("a.py")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message=more")
    release = stage(cache, [workload], repo.as_uri())
    assert release.hash == compute(cache, [workload], repo)
    assert release.commit == git(repo, "rev-parse", "HEAD")


def test_a_ref_is_a_branch_a_tag_or_a_commit(cache: Path, workload: Path, tmp_path: Path):
    repo = repository(tmp_path / "repo", {"v": "1"})
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "tag", "--annotate", "--message=t", "v1")
    git(repo, "switch", "--quiet", "--create", "feature/x")
    fill(repo, {"v": "2"})
    git(repo, "commit", "--quiet", "--all", "--message=second")
    git(repo, "switch", "--quiet", "main")
    versions = {ref: (stage(cache, [workload], repo.as_uri(), ref).path / "code/v").read_text()
                for ref in ("v1", "feature/x", first, first[:10], "main", None)}  # fmt: skip
    assert versions == {"v1": "1", "feature/x": "2", first: "1", first[:10]: "1", "main": "1", None: "1"}
    assert len([path for path in (cache / "git").iterdir() if path.is_dir()]) == 1


def test_a_branch_that_moved_is_fetched_and_a_full_commit_needs_no_network(cache: Path, workload: Path, tmp_path: Path):
    repo = repository(tmp_path / "repo", {"v": "1"})
    url, first = repo.as_uri(), git(repo, "rev-parse", "HEAD")
    one = stage(cache, [workload], url, "main")
    fill(repo, {"v": "2"})
    git(repo, "commit", "--quiet", "--all", "--message=second")
    assert (stage(cache, [workload], url, "main").path / "code/v").read_text() == "2"
    repo.rename(tmp_path / "away")
    assert stage(cache, [workload], url, first).hash == one.hash
    with pytest.raises(ReleaseError, match="git fetch failed"):
        stage(cache, [workload], url, "main")


@pytest.mark.parametrize("ref", ["--upload-pack=touch /tmp/x", "-h", "", "a b", "main~1", "main:v", "nowhere"])
def test_a_ref_that_is_none_is_refused(cache: Path, workload: Path, tmp_path: Path, ref: str):
    url = repository(tmp_path / "repo", {"v": "1"}).as_uri()
    with pytest.raises(ReleaseError, match=r"ref|no branch.*it has the branches main"):
        stage(cache, [workload], url, ref)


@pytest.mark.parametrize("source", ["ext::sh -c touch% /tmp/x", "http://host/x", "/no/such/folder", "--upload-pack=x"])
def test_a_source_that_is_neither_folder_nor_git_address_is_refused(cache: Path, workload: Path, source: str):
    with pytest.raises(ReleaseError, match="neither a folder nor a git address"):
        stage(cache, [workload], source)


def test_a_repository_that_cannot_be_reached_fails_without_a_question_or_a_password(
    cache: Path, workload: Path, tmp_path: Path
):
    with pytest.raises(ReleaseError, match="git clone failed") as fault:
        stage(cache, [workload], "https://user:hush@127.0.0.1:9/x.git")
    assert "hush" not in str(fault.value)
    assert not [path for path in (cache / "git").iterdir() if path.is_dir()]


def test_a_ref_goes_with_a_git_address_only(cache: Path, workload: Path):
    with pytest.raises(ReleaseError, match="use file://"):
        stage(cache, [workload], workload, "main")
    with pytest.raises(ReleaseError, match="without a source"):
        stage(cache, [workload], None, "main")


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "sub/../../outside", "sub/up/../outside"])
def test_a_link_that_leads_out_of_the_tree_is_a_fault(cache: Path, workload: Path, tmp_path: Path, target: str):
    (tmp_path / "outside").write_text("hush")
    code = fill(tmp_path / "mine", {"sub/a": "1"})
    (code / "sub/up").symlink_to("..")
    (code / "link").symlink_to(target)
    with pytest.raises(ReleaseError, match=r"mine/link: links to .* outside"):
        stage(cache, [workload], code)
    assert not cache.exists()


def test_a_tracked_folder_that_became_a_link_to_elsewhere_leaks_nothing(cache: Path, workload: Path, tmp_path: Path):
    code = repository(tmp_path / "mine", {"d/a": "1", "other/a": "elsewhere", "keep": "1"})
    (code / "d/a").unlink()
    (code / "d").rmdir()
    (code / "d").symlink_to("other")
    assert names(stage(cache, [workload], code)) == {"workload/run.py", "code/d", "code/other/a", "code/keep"}


def test_modes_are_normal_whatever_they_were(cache: Path, workload: Path, tmp_path: Path):
    code = fill(tmp_path / "mine", {"sub/tool": "1", "data": "2"})
    (code / "sub/tool").chmod(0o4700)
    (code / "data").chmod(0o666)
    umask = os.umask(0o077)
    try:
        path = stage(cache, [workload], code).path
    finally:
        os.umask(umask)
    modes = {
        name: oct((path / name).stat().st_mode & 0o7777)
        for name in ("", "code", "code/sub", "code/sub/tool", "code/data")
    }
    assert modes == {"": "0o755", "code": "0o755", "code/sub": "0o755", "code/sub/tool": "0o755", "code/data": "0o644"}


def test_an_unchanged_file_has_the_same_time_in_every_release_and_a_changed_one_another(
    cache: Path, workload: Path, tmp_path: Path
):
    code = fill(tmp_path / "mine", {"same": "1", "other": "1"})
    one = stage(cache, [workload], code).path
    fill(code, {"same": "1", "other": "2"})
    two = stage(cache, [workload], code).path
    assert (one / "code/same").stat().st_mtime == (two / "code/same").stat().st_mtime
    assert (one / "code/other").stat().st_mtime != (two / "code/other").stat().st_mtime


def test_a_tree_that_is_too_big_is_refused_naming_what_is_big(
    cache: Path, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code = fill(tmp_path / "mine", {"small": "x", "models/a": "x"})
    os.truncate(code / "models/a", 2 * 10**9)  # sparse: takes no room
    with pytest.raises(ReleaseError, match=r"2\.0 GB, more than the 1 GB.*models/ 2000 MB"):
        stage(cache, [workload], code)
    os.truncate(code / "models/a", 1)
    monkeypatch.setattr(source_tree, "MAX_FILES", 3)
    fill(code, {f"many/{number}": "" for number in range(9)})
    with pytest.raises(ReleaseError, match=r"11 files, more than the 3.*many/ 9"):
        stage(cache, [workload], code)
    assert not cache.exists()


def test_a_staged_release_that_somebody_edited_is_refused(cache: Path, workload: Path):
    release = stage(cache, [workload])
    (release.path / "workload/run.py").write_text("print(2)\n")
    with pytest.raises(ReleaseError, match="changed since it was staged"):
        stage(cache, [workload])


def test_a_failure_half_way_leaves_nothing_behind(cache: Path, workload: Path, monkeypatch: pytest.MonkeyPatch):
    def full(entry: source_tree.Entry, target: Path) -> str:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_tree, "copy", full)
    with pytest.raises(ReleaseError, match="No space left"):
        stage(cache, [workload])
    assert list((cache / "releases").iterdir()) == []


def test_an_empty_or_missing_workload_is_a_fault(cache: Path, tmp_path: Path):
    with pytest.raises(ReleaseError, match="no such folder"):
        stage(cache, [tmp_path / "none"])
    (tmp_path / "empty" / "workload").mkdir(parents=True)
    with pytest.raises(ReleaseError, match="workload is empty"):
        stage(cache, [tmp_path / "empty" / "workload"])


def test_a_git_environment_around_us_points_nowhere(
    cache: Path, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = repository(tmp_path / "other", {"theirs": "1"})
    mine = repository(tmp_path / "mine", {"mine": "1"})
    fill(mine, {".git/info/exclude": "scratch\n", "scratch": "only this repository knows to leave it out"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert names(stage(cache, [workload], mine)) == {"workload/run.py", "code/mine"}
