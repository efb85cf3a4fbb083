//! Tables: columns by content, cut to the width of a terminal, whole where the output goes elsewhere.

use std::io::{self, IsTerminal as _};

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Width, presets};

use super::harmless;

/// Blanks behind a cell. None before it: they would be inside its colour.
const PADDING: u16 = 2;

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
    /// How wide the columns of the table above are, if this goes on where that ended.
    widths: Vec<u16>,
}

impl Table {
    /// A table with these column headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let mut new = Self::without_headings(Vec::new());
        let has_colours = new.has_colours;
        new.table.set_header(headings.iter().map(|heading| {
            let cell = Cell::new(heading);
            if has_colours { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        new
    }

    fn without_headings(widths: Vec<u16>) -> Self {
        let has_colours = super::has_colours();
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        // Its width is heeded without colours too.
        if !io::stdout().is_terminal() {
            table.force_no_tty();
        }
        Self { table, has_colours, widths }
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

    /// An empty one to go below this, without headings: its columns are as wide as this one's, or wider.
    #[must_use]
    pub fn following(&self) -> Self {
        let widths = self
            .widths
            .iter()
            .copied()
            .chain(std::iter::repeat(0))
            .zip(self.table.column_max_content_widths());
        Self::without_headings(widths.map(|(least, width)| least.max(width)).collect())
    }

    /// The whole table as text, without blanks at the ends of lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = self.table.clone();
        for column in table.column_iter_mut() {
            column.set_padding((0, PADDING));
        }
        if table.width().is_none() {
            // On a terminal each part is fitted to its width.
            table.set_constraints(
                self.widths
                    .iter()
                    .map(|width| ColumnConstraint::LowerBoundary(Width::Fixed(width + PADDING))),
            );
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(table: &mut Table, cells: [&str; 2]) {
        table.row(cells.map(|cell| (cell.to_owned(), Style::Plain)));
    }

    #[test]
    fn what_follows_a_table_stands_in_its_columns() {
        let mut table = Table::new(&["A", "B"]);
        row(&mut table, ["a long one", "b"]);
        let mut following = table.following();
        assert_eq!(following.text(), "\n");
        row(&mut following, ["c", "d"]);
        let mut third = following.following();
        row(&mut third, ["e", "f"]);
        assert_eq!(
            table.text() + &following.text() + &third.text(),
            "A           B\na long one  b\nc           d\ne           f\n"
        );
    }
}
