"""nginx names the site; the host only confirms it and never chooses."""

from __future__ import annotations

import pytest

from gateway.errors import Denied
from gateway.sites import MAX_ANSWERS, Sites
from gateway.urls import Origin, Site

ERP = Site("erp", Origin("https", "erp.example.com", 443), frozenset({"erp.example.com", "erp"}))
WIKI = Site("wiki", Origin("http", "wiki.example.org", 8443), frozenset({"wiki.example.org"}))


def refused(sites: Sites, name: str, host: str) -> Denied:
    with pytest.raises(Denied) as caught:
        sites.find(name, host)
    return caught.value


@pytest.mark.parametrize(
    "name, host, site",
    [
        ("erp", "erp.example.com", ERP),
        ("erp", "ERP.example.com:8443", ERP),
        ("erp", "erp", ERP),
        ("wiki", "wiki.example.org:8443", WIKI),
        ("wiki", "wiki.example.org", WIKI),
    ],
)
def test_a_site_at_a_host_of_its_own_is_found(name: str, host: str, site: Site) -> None:
    """The site that nginx names is found at each of its hosts, whatever port and letter case the browser sent."""
    sites = Sites([ERP, WIKI])

    assert sites.find(name, host) is site
    assert sites.find(name, host) is site


@pytest.mark.parametrize("host", ["wiki.example.org", "evil.example", "", "invalid", "erp.example.com.evil.example", "erp..com"])
def test_another_host_is_other_site(host: str) -> None:
    """A host that is not the site's is ``other-site``, be it another site's own; the message names what to correct."""
    denied = refused(Sites([ERP, WIKI]), "erp", host)

    assert denied.reason == "other-site"
    assert f"site erp is at https://erp.example.com, not at host {host!r}:" in str(denied)
    assert all(each in str(denied) for each in ("`public_url`", "`hosts`", "`set $wecom_site`"))


def test_a_name_that_is_no_site_is_unknown_site() -> None:
    """A name that is not in the settings is ``unknown-site``; the message says which there are."""
    denied = refused(Sites([ERP, WIKI]), "intranet", "erp.example.com")

    assert denied.reason == "unknown-site"
    assert "set $wecom_site intranet" in str(denied)
    assert "erp, wiki" in str(denied)


def test_with_several_sites_a_name_is_needed() -> None:
    """Without a name there is no guess by host where there are several sites."""
    denied = refused(Sites([ERP, WIKI]), "", "erp.example.com")

    assert denied.reason == "unknown-site"
    assert str(denied).startswith("no `set $wecom_site NAME;` above `include wecom/gateway.conf;`")


def test_the_only_site_needs_no_name() -> None:
    """With one site the name may be left out, and the host is confirmed all the same."""
    sites = Sites([ERP])

    assert sites.find("", "erp.example.com") is ERP
    assert sites.find("erp", "erp.example.com") is ERP
    assert refused(sites, "", "evil.example").reason == "other-site"


def test_named() -> None:
    """A site is found by its name alone where no host is at hand."""
    assert Sites([ERP, WIKI]).named("wiki") is WIKI
    assert Sites([ERP, WIKI]).named("intranet") is None


def test_answers_are_bounded_and_refusals_not_remembered() -> None:
    """Any number of ports and spellings of a host takes bounded room, and each still gets its answer."""
    sites = Sites([ERP])
    for port in range(MAX_ANSWERS + 50):
        assert sites.find("erp", f"erp.example.com:{port}") is ERP
        assert refused(sites, "erp", f"evil-{port}.example").reason == "other-site"

    assert len(sites._answers) == MAX_ANSWERS
    assert all(site is ERP for site in sites._answers.values())
