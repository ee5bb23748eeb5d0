"""What viewers of embeddings let a person do, and the test that shows each on our page: 57 ways, 48 wanted at least."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

WANTED = 48
# Of each way the tests that show it; empty where the page does not have it.
INTERACTIONS: dict[str, str] = {
    "pan, zoom": "map::the_wheel_zooms_and_a_drag_moves",
    "text of what the pointer rests on": "map::resting_on_a_point_shows_its_text",
    "a click shows the whole row": "map::a_click_pins_the_document_with_all_its_columns",
    "lasso": "select::lasso_box_and_cluster_selections_are_united_subtracted_and_intersected",
    "box": "find::a_box_selects_its_documents_and_saves_their_row_ids",
    "search for words in texts": "find::a_word_is_found_ranked_lit_highlighted_and_leads_to_its_point",
    "regular expressions, by column": "filters::texts_are_filtered_by_a_regular_expression",
    "search by the meaning of what is typed": "find::documents_are_found_by_meaning_with_keys_alone_and_in_the_link",
    "neighbours of a document": "find::documents_like_one_are_listed_lit_and_in_the_link",
    "filter by category": "filters::filters_on_several_columns_narrow_each_others_counts_and_the_legend",
    "filter by number": "filters::a_range_is_set_by_keys_and_by_the_pointer_and_counts_follow",
    "filter by date": "time::a_stretch_of_time_filters_the_map_by_pointer_and_keys_and_is_in_the_link",
    "filter by text": "filters::texts_are_filtered_by_what_they_contain_and_the_filter_is_selected",
    "several filters at once": "filters::filters_on_several_columns_narrow_each_others_counts_and_the_legend",
    "counts follow filters": "filters::a_range_is_set_by_keys_and_by_the_pointer_and_counts_follow",
    "histograms": "time::a_filter_that_ends_between_bars_is_shown_exactly",
    "colour by category": "map::points_take_the_colour_of_a_column",
    "colour by number": "map::points_take_the_colour_of_a_column",
    "colour by density": "space::bands_of_density_and_sizes_that_follow_it",
    "size by column": "size_by::points_are_as_large_as_their_values_say",
    "sliders of size and opacity": "size_by::the_size_is_chosen_by_keys_has_a_legend_and_is_in_the_link",
    "3-D": "space::the_key_turns_the_map_in_space_and_lays_it_flat_again",
    "a stretch of time that plays": "time::a_time_range_plays_to_the_end_unless_motion_is_reduced",
    "topic tree": "topics::the_tree_is_usable_by_keyboard_alone",
    "the tree follows the view": "topics::the_tree_expands_and_highlights_topics_in_view",
    "labels at several zooms": "map::labels_on_the_screen_do_not_overlap",
    "labels are clickable": "truth::a_click_on_a_label_chooses_its_cluster",
    "card of a cluster": "map::chosen_clusters_show_their_exemplars",
    "zoom to a cluster": "map::a_cluster_that_is_out_of_sight_is_brought_into_view",
    "labels are edited": "edits::edits_on_the_page_are_in_the_map_after_labels_import",
    "two maps compared": "compare::a_choice_on_one_map_is_shown_on_the_other",
    "tags": "tags::a_tag_is_kept_coloured_saved_honoured_by_a_run_and_read_again",
    "table of documents": "find::documents_in_view_are_listed_and_read_by_keyboard_alone",
    "statistics of a selection": "select::distinctive_values_of_a_selection_are_shown_with_counts",
    "a selection is exported": "select::a_selection_leaves_as_parquet_with_the_values_and_types_of_the_map",
    "a picture is saved": "tags::a_selection_leaves_as_columns_a_query_a_picture_and_a_link",
    "a link to what is seen": "map::a_url_restores_the_view",
    "back and forward": "truth::back_and_forward_step_through_choices",
    "small picture of the whole map": "looks::close_up_an_overview_shows_the_position_and_navigates",
    "outlines": "looks::a_chosen_cluster_is_outlined_closely",
    "lines of density": "looks::lines_of_equal_density_are_asked_for_follow_the_map_and_are_in_the_link",
    "outliers within reach": "map::the_first_view_frames_the_body_and_the_whole_map_its_outliers",
    "noise is told": "growth::all_documents_are_drawn_and_counted_and_none_that_has_left",
    "images": "images::images_of_named_origins_and_of_the_map_are_shown",
    "links of columns": "map::a_click_pins_the_document_with_all_its_columns",
    "what was found is marked in texts": "find::a_word_is_found_ranked_lit_highlighted_and_leads_to_its_point",
    "provenance and quality on the page": "panels::a_real_map_says_how_it_was_made",
    "keyboard": "map::keys_zoom_pan_help_and_find",
    "assistive technology": "map::the_page_is_accessible",
    "touch": "select::on_a_phone_a_finger_draws_the_lasso",
    "dark and light": "map::the_page_follows_the_system_and_its_button",
    "notebook": "tags::a_selection_on_the_page_is_read_in_python",
    "within another page": "compare::a_choice_on_one_map_is_shown_on_the_other",
    "static, without a server": "single_page::a_page_in_one_file_draws_reads_and_turns_without_a_request",
    "without a graphics processor": "first_picture::the_first_picture_equals_deck_with_less_than_half_of_the_scripts",
    "no foreign host": "hostile_corpus::a_hostile_corpus_is_shown_as_text_everywhere",
    "agents (MCP)": "",
}


@cache
def defined_in(name: str) -> frozenset[str]:
    tree = ast.parse(Path(__file__).with_name(f"test_{name}.py").read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("way", [way for way, shown in INTERACTIONS.items() if shown])
def test_each_way_is_shown_by_a_test(way: str) -> None:
    module, _, test = INTERACTIONS[way].partition("::")
    assert f"test_{test}" in defined_in(module)


def test_the_page_has_at_least_48_of_the_57_ways() -> None:
    assert len(INTERACTIONS) == 57
    assert sum(map(bool, INTERACTIONS.values())) >= WANTED
