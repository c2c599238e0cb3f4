"""What else was tried besides files that are wrong, what becomes of it, and which test proves it: for the tests and for
``docs/faults.md``."""

from __future__ import annotations

from typing import NamedTuple


class Proof(NamedTuple):
    """``test`` is ``file::name`` below ``tests``."""

    fault: str
    outcome: str
    test: str


RACES = "live/test_kernel_races.py::"
FAULTS = "live/test_faults.py::"
STATE = FAULTS + "test_a_process_in_any_state_is_told_and_holds_nothing_up"

PROOFS: dict[str, tuple[Proof, ...]] = {
    "Processes": (
        Proof(
            "one exits before any of the calls that read it",
            "dropped and counted",
            "test_collect.py::test_a_process_that_exits_at_any_moment_of_a_scan_is_dropped_and_counted",
        ),
        Proof(
            "its pid is given to another (`ns_last_pid`) before any of those calls",
            "gone, or all of the one, or all of the other",
            RACES + "test_a_process_is_never_mixed_with_the_next_of_its_pid",
        ),
        Proof(
            "the same of a container's init, over a whole look",
            "never mixed",
            RACES + "test_a_container_is_never_mixed_with_the_next_process_of_its_inits_pid",
        ),
        Proof(
            "zombie",
            "a process without namespaces",
            "test_collect.py::test_a_zombie_is_a_process_without_namespaces",
        ),
        Proof("a zombie among the living", "its container is whole", STATE),
        Proof(
            "only zombies are left of a container",
            "it is not listed",
            FAULTS + "test_a_container_of_which_only_the_dead_are_left_is_none",
        ),
        Proof("the first thread has ended, others go on", "told through one of those", STATE),
        Proof("stopped", "told like any other", STATE),
        Proof("uninterruptible sleep", "told like any other, nothing waits for it", STATE),
        Proof("frozen by the v1 freezer", "told like any other, nothing waits for it", STATE),
        Proof(
            "kernel thread",
            "a process of no container",
            FAULTS + "test_a_kernel_thread_is_a_process_of_no_container",
        ),
        Proof(
            "a thread with other capabilities or namespaces than its process",
            "found, thread by thread",
            "live/test_caps.py::test_a_thread_that_dropped_a_capability_is_found_and_one_that_did_not_is_not",
        ),
        Proof(
            "one that calls itself with escapes, newlines and bytes that are no UTF-8",
            "spelled out",
            "live/test_docker.py::test_a_hostile_name_harms_neither_terminal_nor_json",
        ),
        Proof(
            "a command line that nobody can read to its end",
            "given up, the next is read",
            "test_capture.py::test_a_child_that_hangs_is_given_up_and_the_next_still_read",
        ),
    ),
    "Cgroups": (
        Proof(
            "removed before any of the calls that read it",
            "gone and counted, or read whole",
            RACES + "test_a_cgroup_removed_at_any_moment_is_gone_and_counted",
        ),
        Proof(
            "replaced by another of its name",
            "gone, or all of the one, or all of the other",
            RACES + "test_a_cgroup_that_was_replaced_is_never_read_half_and_half",
        ),
        Proof(
            "deleted around a dead process",
            "no container, nobody else's answer changes",
            FAULTS + "test_a_cgroup_that_was_deleted_around_a_dead_process",
        ),
        Proof(
            "threaded, and `domain invalid`",
            "its processes are its container's",
            FAULTS + "test_threaded_cgroups_and_invalid_ones",
        ),
        Proof("frozen by v2", "told like any other", FAULTS + "test_a_cgroup_frozen_by_v2"),
        Proof("empty", "no container", FAULTS + "test_an_empty_cgroup_is_no_container"),
        Proof(
            "a name of every byte but `/` and newline",
            "spelled out, found by its process",
            FAULTS + "test_a_name_of_every_byte_there_is",
        ),
        Proof(
            "2,000 deep below a container",
            "its processes are its container's",
            FAULTS + "test_two_thousand_cgroups_deep",
        ),
        Proof(
            "a container 1,960 deep",
            "the tightest limit of all above is found",
            FAULTS + "test_a_container_below_two_thousand_cgroups",
        ),
        Proof(
            "deeper than the kernel has a path for",
            "it gives the beginning: its processes are its container's",
            FAULTS + "test_deeper_than_the_kernel_can_say",
        ),
        Proof("10,000 in one, each named like a container", "none is one", FAULTS + "test_ten_thousand_cgroups_wide"),
        Proof(
            "named like a container inside one",
            "an issue of kind `spoofed`",
            "live/test_attacks.py::test_a_cgroup_named_like_a_container_makes_none",
        ),
        Proof(
            "named like an engine's helper inside a container",
            "hides no process",
            "live/test_attacks.py::test_a_cgroup_named_like_a_helper_hides_no_process",
        ),
        Proof(
            "a hierarchy that is unmounted meanwhile",
            "counted, hides no container",
            "test_collect.py::test_a_hierarchy_that_goes_away_hides_no_container",
        ),
        Proof(
            "a private pid or cgroup namespace of our own",
            "an issue of kind `private_namespace`",
            "live/test_private_view.py::test_a_private_namespace_is_said",
        ),
    ),
    "Output": (
        Proof(
            "escapes, controls, bidirectional and invisible characters in any name",
            "spelled out",
            "test_safe.py::test_hostile_text_is_spelled_out_and_honest_text_kept",
        ),
        Proof(
            "a name of megabytes",
            "4,096 characters and how many there are; in JSON all",
            "test_hostile_text.py::test_no_text_fills_a_screen",
        ),
        Proof(
            "the same in labels of metrics, with quotes, backslashes and newlines",
            "parses back as one label",
            "test_metrics.py::test_a_hostile_name_is_one_label_and_nothing_else",
        ),
        Proof(
            "the same in the log",
            "one line that a program can read",
            "test_serve_logs.py::test_hostile_text_stays_in_its_field",
        ),
        Proof(
            "the same in events, for people, ECS and Timesketch",
            "one line",
            "test_events.py::test_hostile_names_are_harmless_in_each_format",
        ),
        Proof("the reader of stdout goes away", "silence", "test_cli.py::test_a_closed_pipe_is_silent"),
        Proof(
            "stdout is on a full disk",
            "exit 6 and one line",
            "test_cli.py::test_an_answer_that_cannot_be_written_is_6_with_one_line",
        ),
        Proof("no stdout", "exit 0, nothing takes its place", "test_cli.py::test_without_a_stdout_it_answers_nobody"),
        Proof(
            "a terminal one column wide, `TERM=dumb`",
            "plain text",
            "test_cli.py::test_a_terminal_one_column_wide_that_can_do_nothing_gets_plain_text",
        ),
        Proof(
            "a terminal that has no such character",
            "an escape",
            "test_cli.py::test_a_terminal_that_cannot_show_a_character_gets_an_escape",
        ),
        Proof(
            "names longer than a label may be",
            "cut, and still two series",
            "test_metrics.py::test_names_of_255_bytes_that_differ_in_the_last_are_two_series",
        ),
        Proof(
            "more containers than may have series",
            "the oldest stay, and it is counted how many are left out",
            "test_metrics.py::test_the_newest_go_first_and_nested_ones_before_any_of_the_host",
        ),
        Proof(
            "a document that is written again",
            "the same order, the same text",
            "test_docs.py::test_generated_files_are_up_to_date",
        ),
    ),
    "Clocks, disks and what never answers": (
        Proof(
            "the clock steps back while it is recorded",
            "every look is found at its time",
            "test_store.py::test_every_look_is_found_at_its_time_although_the_clock_stepped_back",
        ),
        Proof(
            "the same, of events",
            "all there",
            "test_store.py::test_events_are_all_there_although_the_clock_stepped_back",
        ),
        Proof(
            "boot time, uptime or start times that no clock shows",
            "malformed",
            "test_collect.py::test_a_number_of_400_digits_hides_no_other_container",
        ),
        Proof(
            "an hour that occurs twice, or never",
            "a moment nevertheless",
            "test_moments.py::test_an_hour_that_never_was_is_a_moment_nevertheless",
        ),
        Proof(
            "the disk of a recording is full",
            "one look is lost, the next are kept",
            "test_store.py::test_a_full_disk_costs_one_look_and_leaves_no_damage",
        ),
        Proof(
            "a bit of a recording flips",
            "one look at most is lost, and said to be",
            "test_store.py::test_a_flipped_bit_costs_one_look_at_most_and_one_line_says_so",
        ),
        Proof(
            "a read of a scrape that never returns",
            "the other parts are told within the deadline",
            "test_serve_scraper.py::test_a_part_that_hangs_leaves_time_for_those_after_it",
        ),
        Proof(
            "a file system of an engine's files that does not answer",
            "what is on it is unknown, after two seconds, once; all else is told",
            "live/test_attacks.py::test_a_disk_that_does_not_answer_costs_what_is_on_it_and_a_moment",
        ),
        Proof(
            "one that answers late each time",
            "the same, after ten seconds altogether",
            "test_patience.py::test_a_disk_that_is_slow_each_time_has_an_end",
        ),
        Proof(
            "mounts upon mounts, whose table takes the kernel minutes to write",
            "`null` after a second, and an issue; of the others, after two in all, what an ordinary one takes is given",
            "live/test_greed.py::test_mounts_upon_mounts_cost_what_is_known_of_them_and_of_nobody_else",
        ),
        Proof(
            "thousands of processes in 65,536 groups each",
            "after half a second those of that container, or slice, are not asked for their `status`, and an issue",
            "live/test_greed.py::test_a_crowd_in_many_groups_costs_what_is_known_of_it_and_of_nobody_else",
        ),
        Proof(
            "many processes that hold as many descriptors as they may",
            "after a second of a container's no more are asked which sockets they hold; an issue",
            "live/test_greed.py::test_descriptors_without_number_cost_what_is_known_of_them_and_of_nobody_else",
        ),
        Proof(
            "a table of mounts that is longer than our memory has room for",
            "the same, after 8 MiB in all",
            "test_effort.py::test_a_long_table_is_given_up_and_an_ordinary_one_is_always_read",
        ),
        Proof(
            "a user's state files that would fill our memory",
            "unknown, each with an issue, after 4 MiB of one user and 16 of all; root's are read",
            "live/test_greed.py::test_a_users_files_do_not_fill_an_exporters_memory",
        ),
        Proof(
            "what a link in a capture leads to does not answer",
            "nobody asks it",
            "live/test_attacks.py::test_a_capture_says_that_there_was_no_answer",
        ),
        Proof(
            "any file of a copy is a FIFO, a device or a link",
            "costs its own fact, nobody waits, nothing outside is opened",
            "test_hostile_trees.py::test_what_is_no_file_costs_no_more_than_itself",
        ),
    ),
}
