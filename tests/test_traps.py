"""Known mistakes of programs that send or read faces, each with the tests that show that it is not made here."""

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LIVELINK = "protocols/test_livelink.py"
OSC = "protocols/test_osc.py"
VMC = "protocols/test_vmc.py"
PHONE = "protocols/test_ifacialmocap.py"
VRCHAT = "protocols/test_vrchat.py"
STUDIO = "runtime/test_vtubestudio.py"
DEVICE = "protocols/test_livelink_device.py"
SINKS = "runtime/test_sinks.py"
LISTENING = "runtime/test_listening_sinks.py"
CSV = "converters/test_livelink_csv.py"
CONVERT = "converters/test_convert.py"
CAPTURE = "runtime/test_capture.py"
DOCTOR = "runtime/test_doctor.py"
TAKES = "runtime/test_takes.py"

TRAPS: dict[int, tuple[str, tuple[str, ...]]] = {
    # --- Live Link Face over UDP
    1: ("everything is big-endian, the lengths too", (
        f"{LIVELINK}::test_golden_packet_is_encoded",
        f"{LIVELINK}::test_what_a_strict_receiver_would_drop_is_refused_with_its_reason",
    )),
    2: ("lengths count bytes of UTF-8", (f"{LIVELINK}::test_header_and_fields_are_each_others_form",)),
    3: ("a string has no NUL", (f"{LIVELINK}::test_names_that_cannot_be_sent_are_refused",)),
    4: ("a device id is one character", (
        f"{SINKS}::test_several_subjects_share_a_target_and_differ_by_name_and_device",
    )),
    5: ("a rate's denominator is never 0", (f"{LIVELINK}::test_header_and_fields_are_each_others_form",)),
    6: ("the frame time moves, the sub-frame is below 1", (
        f"{LIVELINK}::test_a_subframe_just_below_one_does_not_become_one_on_the_wire",
        "runtime/test_frame_thread.py::test_numbers_rise_strictly_whatever_the_clock_does",
        f"{TAKES}::test_a_sender_whose_numbers_stand_still_is_timed_by_arrival",
    )),
    7: ("left comes before right, other than in the CSV", (
        f"{LIVELINK}::test_each_channel_lies_at_its_place_in_the_packet",
        "protocols/test_channels.py::test_wire_order_is_the_enum_of_another_implementation",
    )),
    8: ("61 values and version 6, exactly", (f"{LIVELINK}::test_golden_packet_is_the_one_that_was_worked_out",)),
    9: ("a packet without a face ends after the rate", (
        f"{LIVELINK}::test_no_face_packet_keeps_its_header",
        f"{TAKES}::test_what_arrives_from_another_sender_is_recorded",
    )),
    10: ("sizes are 270 and the names, below the receiver's buffer", (
        f"{LIVELINK}::test_no_packet_is_longer_than_the_receivers_buffer",
    )),
    11: ("head yaw and eye yaw have opposite signs, both in radians", (
        f"{VMC}::test_bones_turn_the_way_the_channels_say",
        f"{PHONE}::test_eyes_turn_the_way_the_vendors_samples_do",
        f"{SINKS}::test_a_sinks_own_gain_changes_a_copy_and_no_other_sink",
    )),
    12: ("eyes travel as shapes and as angles", (
        "protocols/test_keyframes.py::test_eye_angles_that_agree_with_the_look_shapes",
        "converters/test_npy.py::test_52_columns_have_a_head_at_rest_and_eyes_that_follow",
    )),
    13: ("values are finite and within their range", (
        "protocols/test_kernels.py::test_finished_pose_keeps_every_rule_whatever_comes_in",
        f"{SINKS}::test_a_gain_ends_at_a_channels_range",
    )),
    14: ("a packet that is dropped holds up those behind it: none is sent, and in ours it holds up nobody", (
        f"{SINKS}::test_from_the_first_frame_to_the_last_unreal_takes_every_packet",
        f"{CAPTURE}::test_packets_of_another_sender_are_received_and_strangers_are_not",
    )),
    15: ("nothing stands behind the last value", (
        f"{LIVELINK}::test_header_and_fields_are_each_others_form",
        f"{SINKS}::test_from_the_first_frame_to_the_last_unreal_takes_every_packet",
    )),
    16: ("an OSC server of Unreal on 127.0.0.1 is moved elsewhere: it must listen on all addresses", (
        f"{DOCTOR}::test_an_osc_target_where_nobody_listens_may_be_a_server_that_unreal_has_moved",
        f"{SINKS}::test_an_osc_server_on_all_addresses_is_reached_where_it_is_looked_for",
    )),
    17: ("frames are paced, never sent in a burst", (
        "runtime/test_frame_thread.py::test_after_a_stall_frames_are_skipped_and_counted_and_none_comes_in_a_burst",
    )),
    # --- the newer Live Link Face
    18: ("roles are reversed, bytes little-endian, values 0 to 1", (
        f"{DEVICE}::test_a_data_packet_is_little_endian_and_holds_what_was_announced",
        f"{DEVICE}::test_values_travel_as_nothing_but_0_to_1",
    )),
    19: ("as many values as were announced, in the version in which Unreal speaks", (
        "runtime/test_livelink_device.py::test_a_stream_holds_as_many_values_as_were_announced",
        "runtime/test_livelink_device.py::test_the_numbers_that_nobody_has_confirmed_can_be_set",
    )),
    20: ("discovery has a version since 5.6", (f"{DEVICE}::test_discovery_has_its_version_since_unreal_5_6",)),
    # --- takes
    21: ("the app's titles of mouth left and right are exchanged", (
        f"{CSV}::test_mouth_left_stands_where_the_app_has_it",
        f"{CSV}::test_the_mouth_goes_to_the_side_that_the_reading_says",
        f"{CSV}::test_a_side_of_its_own_comes_back_as_it_went",
        f"{CONVERT}::test_the_mouth_of_the_phone_app_is_put_right",
        "protocols/test_channels.py::test_a_mouth_to_the_left_lands_under_its_own_title_in_a_csv",
    )),
    22: ("the app has spelled BlendShapeCount in two ways", (f"{CSV}::test_either_spelling_of_the_header_is_read",)),
    23: ("timecodes count 60ths at every rate", (
        f"{CSV}::test_timecodes_count_60ths_of_a_second_at_every_rate",
        f"{CSV}::test_a_take_of_30_frames_a_second_goes_in_steps_of_two",
    )),
    24: ("no cell is empty", (
        f"{CSV}::test_lines_end_with_a_line_feed_and_no_cell_is_empty",
        f"{CSV}::test_unreals_importer_takes_what_is_written",
        f"{CSV}::test_what_is_wrong_is_told_with_line_column_and_title",
    )),
    25: ("Unreal takes the subject from the file's name", (
        f"{CSV}::test_the_subject_is_in_the_name_of_the_file",
        f"{CSV}::test_a_name_from_which_unreal_reads_another_subject_is_refused",
        f"{CONVERT}::test_the_subject_is_that_of_the_name_of_the_file",
    )),
    26: ("numbers have a point in every locale", (f"{CSV}::test_a_locale_with_a_decimal_comma_changes_nothing",)),
    27: ("head yaw and pitch stand under their own titles", (
        f"{CSV}::test_every_value_stands_under_its_own_title",
    )),
    # --- OSC and VMC
    28: ("52 clips in one bundle are more than a packet", (
        f"{VMC}::test_bundles_stay_below_an_ethernet_packet_and_apply_is_last_of_the_last",
        f"{SINKS}::test_vmc_is_one_bundle_on_this_machine_and_split_beyond_it",
    )),
    29: ("Apply forgets what was not sent: all of it, once a frame", (
        f"{VMC}::test_nothing_is_left_out_of_a_frame_that_has_not_changed",
        f"{VMC}::test_a_frame_is_ok_time_bones_all_52_shapes_and_apply_last",
    )),
    30: ("a value is an OSC float, also 0 and 1", (
        f"{VMC}::test_every_value_is_a_float_even_a_whole_one",
        f"{OSC}::test_every_value_is_a_float_even_a_whole_one",
        f"{VRCHAT}::test_every_value_is_a_float_even_a_whole_one",
    )),
    31: ("clips are case-sensitive: Pascal, or camel where asked for", (
        f"{VMC}::test_names_may_be_camel",
        f"{VMC}::test_packets_of_another_library_are_read_in_any_case_message_by_message",
    )),
    32: ("a receiver needs all 52, and a model without them others", (
        f"{VMC}::test_a_frame_is_ok_time_bones_all_52_shapes_and_apply_last",
        f"{VMC}::test_preset_names_are_those_of_the_version_and_come_beside_the_52",
    )),
    33: ("39539 is who shows the avatar, not 39540", (f"{VMC}::test_ports_are_those_of_the_specification",)),
    34: ("without OK 1 there is no model yet", (
        f"{VMC}::test_a_frame_is_ok_time_bones_all_52_shapes_and_apply_last",
    )),
    35: ("quaternions are x y z w, left-handed, local, never zero", (
        f"{VMC}::test_bones_turn_the_way_the_channels_say",
        f"{VMC}::test_every_rotation_is_a_unit_quaternion",
        f"{VMC}::test_a_face_at_rest_has_identity_rotations_and_never_zero_ones",
        f"{VMC}::test_angles_are_applied_in_unitys_order",
    )),
    36: ("VRM 0 and VRM 1 name their presets differently", (
        f"{VMC}::test_preset_names_are_those_of_the_version_and_come_beside_the_52",
    )),
    37: ("a receiver takes so many frames a second and drops the rest", (
        f"{SINKS}::test_a_rate_lets_every_so_many_frames_through",
    )),
    38: ("Unreal stops at a type tag that it does not know", (
        f"{OSC}::test_no_type_tag_is_sent_that_unreal_does_not_know",
    )),
    # --- VTube Studio
    39: ("what is not sent for a second falls back", (
        f"{STUDIO}::test_a_face_that_does_not_move_keeps_its_parameters_and_is_not_sent_at_every_frame",
        f"{STUDIO}::test_frames_that_stop_coming_do_not_let_the_face_fall",
    )),
    40: ("one unknown parameter fails them all", (
        f"{STUDIO}::test_a_default_parameter_that_this_vtube_studio_lacks_is_not_set",
        f"{STUDIO}::test_where_only_so_many_parameters_are_allowed_the_rest_is_set",
    )),
    41: ("default names cannot be created", (
        "protocols/test_vtubestudio.py::test_a_parameter_a_channel_with_names_that_vtube_studio_takes",
    )),
    42: ("parameterValues is an array, names are alphanumeric", (
        "protocols/test_vtubestudio.py::test_what_is_injected_is_the_documented_json",
        "protocols/test_vtubestudio.py::test_a_prefix_that_makes_no_name_is_refused",
    )),
    43: ("two plugins cannot set one parameter", (
        f"{STUDIO}::test_another_plugin_on_a_parameter_is_told_once_with_the_way_out",
        f"{STUDIO}::test_adding_to_the_tracking_adds_nothing_at_rest_and_sets_nothing",
    )),
    44: ("a token is for one name, and every connection", (
        "protocols/test_vtubestudio.py::test_who_we_are_never_changes_by_a_byte",
        f"{STUDIO}::test_leave_that_was_taken_back_is_asked_for_again_and_the_parameters_are_made_anew",
    )),
    45: ("answers come in any order, are not waited for, but read", (
        f"{STUDIO}::test_answers_that_come_late_and_in_another_order_hold_nothing_up",
    )),
    46: ("it is found although its API is off", (f"{STUDIO}::test_one_whose_api_is_off_is_told_how_to_turn_it_on",)),
    # --- iFacialMocap
    47: ("sides are _L and _R, but not of jaw and mouth themselves", (f"{PHONE}::test_names_are_the_apps",)),
    48: ("values are whole numbers, angles have a point", (
        f"{PHONE}::test_a_value_is_a_whole_number_from_0_to_100",
        f"{PHONE}::test_a_packet_does_not_depend_on_the_locale",
    )),
    49: ("the status in front, one '=' glued to head, '|' at the end", (
        f"{PHONE}::test_every_receiver_of_version_1_reads_every_value",
        f"{PHONE}::test_the_receiver_of_version_2_reads_every_value",
        f"{PHONE}::test_golden_packet",
    )),
    50: ("two equal packets are lost tracking", (
        f"{PHONE}::test_a_frozen_face_is_not_taken_for_lost_tracking",
        f"{PHONE}::test_no_two_packets_are_equal_whatever_the_head_does_and_the_difference_cannot_be_seen",
        f"{LISTENING}::test_a_frozen_face_sends_no_packet_twice_to_anyone",
    )),
    51: ("eye yaw has the opposite sign of Live Link's, in degrees; the head has six numbers", (
        f"{PHONE}::test_eyes_turn_the_way_the_vendors_samples_do",
        f"{PHONE}::test_golden_packet",
    )),
    52: ("a negative value collides with the '-' of version 1", (
        f"{PHONE}::test_a_value_is_a_whole_number_from_0_to_100",
        f"{PHONE}::test_the_apps_packets_are_read_with_the_signs_of_the_channels",
    )),
    # --- VRChat
    53: ("an avatar has its own prefix and knows exact names only", (
        f"{VRCHAT}::test_a_prefix_comes_before_the_parameters_and_flags_have_both_names",
        f"{VRCHAT}::test_parameters_are_vrcfacetrackings",
    )),
    54: ("a new avatar hears nothing of what does not change", (
        f"{VRCHAT}::test_everything_is_sent_again_every_second",
        f"{LISTENING}::test_everything_is_sent_again_when_vrchat_reports_another_avatar",
    )),
    56: ("one ARKit shape is several Unified ones", (
        f"{VRCHAT}::test_one_arkit_shape_moves_all_the_unified_shapes_that_it_stands_for",
    )),
    # --- what values mean
    57: ("mouthClose needs an open jaw", (
        "protocols/test_keyframes.py::test_acted_pose",
        "protocols/test_kernels.py::test_finished_pose_keeps_every_rule_whatever_comes_in",
    )),
    58: ("MediaPipe's list begins with _neutral and has no tongueOut: a value goes by its name, not by its place", (
        f"{CSV}::test_what_other_programs_write_goes_by_its_name",
        f"{CSV}::test_a_title_that_is_no_channel_is_refused_and_shifts_nothing",
        f"{VMC}::test_packets_of_another_library_are_read_in_any_case_message_by_message",
    )),
    59: ("Audio2Face has another order, no head, and names that are sent once: a value goes by its name", (
        f"{CSV}::test_what_other_programs_write_goes_by_its_name",
    )),
    60: ("which side is left, and for whom", (
        "protocols/test_channels.py::test_mirror_exchanges_sides",
        f"{SINKS}::test_a_mirrored_sink_shows_the_other_side",
    )),
}  # fmt: skip
"""By number: the mistake, and tests as `file::name` below tests/."""

NOT_OURS: dict[int, str] = {
    55: "VRChat's own list of an avatar's parameters is stale after the avatar was updated: nothing here reads or "
    "writes that file, every avatar gets every parameter (54), and docs/troubleshooting.md says to delete it",
}
"""By number: why a mistake cannot be made here."""

LAST = 60
"""The mistakes are numbered from 1 to this."""


def unlisted(traps: Collection[int], not_ours: Collection[int]) -> set[int]:
    """The numbers that are in neither list, in both, or that there are not."""
    return set(range(1, LAST + 1)) ^ set(traps) ^ set(not_ours)


def test_every_mistake_has_a_test_or_a_reason() -> None:
    assert unlisted(TRAPS, NOT_OURS) == set()
    assert all(NOT_OURS.values())


def test_a_mistake_that_is_not_listed_would_be_found() -> None:
    assert unlisted(TRAPS.keys() - {14}, NOT_OURS) == {14}
    assert unlisted(TRAPS, ()) == set(NOT_OURS)
    assert unlisted(TRAPS.keys() | {61}, NOT_OURS) == {61}
    assert unlisted(TRAPS, NOT_OURS.keys() | {1}) == {1}


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("number", sorted(TRAPS))
def test_the_tests_of_a_trap_exist(number: int) -> None:
    what, tests = TRAPS[number]
    assert what
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name.startswith("test_")
        assert name in functions(file), test


def test_a_test_that_does_not_exist_would_be_found() -> None:
    assert "test_that_nobody_wrote" not in functions(LIVELINK)
