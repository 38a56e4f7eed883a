"""A served site for the tests that run against any: what it says of itself goes into a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.e2e.site import ClusterSite, LocalSite, Site, open_site


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(site, LocalSite | ClusterSite):
        report.sections.append(("the site", site.dump()))
    return report


@pytest.fixture(scope="module")
def site(drift_python: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert drift_python
    found = open_site(tmp_path_factory.mktemp("site"))
    yield found
    found.end()
