//! Tables: columns by content, cut to the width of a terminal, whole where the output goes elsewhere.

use std::io::{self, IsTerminal as _};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, presets};

use super::harmless;

/// How a cell is shown on a terminal with colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Something went well.
    Good,
    /// Something went wrong.
    Bad,
    /// Something is going on.
    Active,
    /// Of less interest.
    Faint,
}

/// A table under construction.
pub struct Table {
    table: comfy_table::Table,
    has_colours: bool,
}

impl Table {
    /// A table with these column headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let has_colours = super::has_colours();
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        // Its width is heeded without colours too.
        if !io::stdout().is_terminal() {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|heading| {
            let cell = Cell::new(heading);
            if has_colours { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        Self { table, has_colours }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        let has_colours = self.has_colours;
        self.table.add_row(cells.into_iter().map(|(text, style)| {
            let cell = Cell::new(harmless(&text).replace(['\n', '\t'], " "));
            match style {
                _ if !has_colours => cell,
                Style::Plain => cell,
                Style::Good => cell.fg(Color::Green),
                Style::Bad => cell.fg(Color::Red),
                Style::Active => cell.fg(Color::Cyan),
                Style::Faint => cell.add_attribute(Attribute::Dim),
            }
        }));
    }

    /// The whole table as text, without blanks at the ends of lines.
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.table.to_string();
        let lines: Vec<&str> =
            text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
        lines.join("\n") + "\n"
    }
}
