"""What a real repository says of the objects that it has."""

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import commits_among
from ipvcs.git_bridge.object_feed import find_all
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType
from tests.e2e.real_git import Git
from tests.e2e.test_git_conversion import oid_of
from tests.e2e.test_git_mapping import tag_body, tree_body


def test_commits_are_told_from_all_else_and_from_what_is_not_there(git: Git) -> None:
    repository = GitRepository(git.path, git.environ)
    tree = git.write(GitType.TREE, tree_body())
    commits = [oid_of(git, git("commit-tree", str(tree), "-m", name).decode().strip()) for name in ("x", "y")]
    tag = git.write(GitType.TAG, tag_body(commits[0], b"commit"))
    absent = ObjectId(bytes(git.object_format.size))
    assert commits_among(repository, [commits[1], tree, absent, tag, commits[0]]) == [commits[1], commits[0]]
    assert commits_among(repository, []) == []


def test_a_revision_is_resolved_as_git_does(git: Git) -> None:
    repository = GitRepository(git.path, git.environ)
    commit = git("commit-tree", str(git.write(GitType.TREE, tree_body())), "-m", "x").decode().strip()
    tag = str(git.write(GitType.TAG, tag_body(ObjectId.parse(commit), b"commit")))
    git("update-ref", "refs/heads/main", commit)
    git("update-ref", "refs/tags/v1", tag)
    absent = "1" * len(commit)
    expected = {
        "refs/heads/main": commit, "main": commit, "refs/tags/v1": tag, "v1^{}": commit, commit[:10]: commit,
        ":/ x": None, "main@{0}^{/x}": None, "main^{/x}": commit, "main^{/ x}": None, absent: None,
        "refs/heads/other": None, "-x": None,
    }  # fmt: skip
    found = find_all(repository, [revision.encode() for revision in expected])
    assert found == [None if oid is None else ObjectId.parse(oid) for oid in expected.values()]
