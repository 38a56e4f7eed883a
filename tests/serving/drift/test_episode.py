from __future__ import annotations

from serving.drift.episode import Episodes

WINDOW = 100


def opened(row: int = 1000, onset: int = 900) -> Episodes:
    episodes = Episodes(WINDOW)
    episodes.calm(onset, "onset")
    assert episodes.alarm("watch", row, "now", confirmed=False) == "opened"
    return episodes


def test_an_episode_opens_once_however_often_the_alarm_comes() -> None:
    episodes = opened()
    assert [episodes.alarm("watch", row, "t", confirmed=False) for row in (1050, 1100)] == [
        None
    ] * 2
    assert (episodes.number, episodes.open) == (1, True)


def test_it_is_resolved_after_two_quiet_windows() -> None:
    episodes = opened()
    assert [episodes.look(row, "t") for row in (1100, 1199, 1200, 1300)] == [
        *(None, None),
        "resolved",
        None,
    ]


def test_drift_that_is_seen_again_keeps_it_open() -> None:
    episodes = opened()
    episodes.alarm("windows", 1150, "t", confirmed=False)
    assert [episodes.look(row, "t") for row in (1200, 1349, 1350)] == [None, None, "resolved"]


def test_a_shift_that_took_long_to_be_seen_must_be_gone_for_longer() -> None:
    episodes = opened(row=5000, onset=1000)
    assert [episodes.look(row, "t") for row in (12_999, 13_000)] == [None, "resolved"]


def test_the_next_one_has_the_next_number() -> None:
    episodes = opened()
    episodes.look(1200, "t")
    assert episodes.alarm("windows", 2000, "t", confirmed=False) == "opened"
    assert episodes.number == 2


def test_it_is_confirmed_once_the_other_kind_of_detector_sees_it_too() -> None:
    episodes = opened()
    episodes.alarm("watch", 1050, "t", confirmed=False)
    assert episodes.current is not None
    assert not episodes.current.confirmed
    episodes.alarm("windows", 1100, "t", confirmed=False)
    assert episodes.current.confirmed


def test_it_escalates_once_when_the_effect_is_major() -> None:
    episodes = opened()
    assert [episodes.weigh(psi) for psi in (0.1, 0.3, 0.9)] == [None, "escalated", None]


def test_evidence_that_rows_without_drift_have_too_does_not_keep_it_open() -> None:
    episodes = opened()
    # ln(100 rows) + ln 20
    assert 7.5 < episodes.still(1100) < 7.7


def test_it_goes_on_from_its_state() -> None:
    episodes, again = opened(), Episodes(WINDOW)
    again.load(episodes.to_json())
    assert again.to_json() == episodes.to_json()
    assert again.look(1200, "t") == "resolved"
