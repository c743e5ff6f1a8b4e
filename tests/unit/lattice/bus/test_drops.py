from lattice.bus.drops import OTHERS, SUBJECTS_MAX, Drops


class Subscribed:
    """Stands for a subscription of the client's."""


def test_drops_are_counted_by_subscription_and_by_subject() -> None:
    drops, one, other = Drops(), Subscribed(), Subscribed()
    drops.note("a.*", one)
    drops.note("a.*", one)
    drops.note("b", other)

    assert (drops.total, drops.of(one), drops.of(other), drops.of(Subscribed())) == (3, 2, 1, 0)
    assert drops.by_subject == {"a.*": 2, "b": 1}


def test_subjects_are_bounded_and_inboxes_count_as_one() -> None:
    drops = Drops()
    for n in range(3 * SUBJECTS_MAX):
        drops.note(f"subject-{n}", Subscribed())
        drops.note(f"_INBOX.{n}", Subscribed())

    assert len(drops.by_subject) <= SUBJECTS_MAX + 1
    assert drops.by_subject["_INBOX.>"] == 3 * SUBJECTS_MAX
    assert drops.by_subject[OTHERS] == 2 * SUBJECTS_MAX + 1
    assert drops.total == 6 * SUBJECTS_MAX
