//! A page: a line of head, a table or a text, a line of foot; fitted to whatever size the terminal has.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::Span;

use super::fit;
use crate::render::{Style, harmless};

/// What is on the screen.
pub struct Page<'a> {
    /// The first line.
    pub head: String,
    /// What is between.
    pub body: Body<'a>,
    /// The last line.
    pub foot: String,
    /// How the last line is shown.
    pub foot_style: Style,
}

/// What is between head and foot.
pub enum Body<'a> {
    /// Rows of which one is chosen; those around it are shown.
    Table {
        /// The columns.
        columns: &'a [Column],
        /// A cell per column.
        rows: &'a [Vec<(String, Style)>],
        /// Which row is chosen.
        chosen: usize,
        /// What is shown when there are no rows.
        empty: &'a str,
    },
    /// Lines, from the one at `top` on.
    Text {
        /// All lines.
        lines: &'a [String],
        /// The first that is shown; `None` for as many of the last as there is room for.
        top: Option<usize>,
        /// How many characters are left out of the beginning of each.
        left: usize,
    },
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Where the terminal is too narrow, those with the highest number are left out first; those with 0 never.
    pub dispensable: u8,
    /// It may be cut to this width.
    pub least: u16,
    /// It is this wide where there is room, so that what comes later moves no other column.
    pub usual: u16,
}

/// How many rows of the terminal are left for the body of a table.
pub(super) fn rows(height: u16) -> usize {
    usize::from(height.saturating_sub(3).max(1))
}

impl Page<'_> {
    /// Draws it over the whole of `to`.
    pub(super) fn draw(&self, to: &mut Buffer, has_colours: bool) {
        let area = to.area;
        if area.height == 0 || area.width == 0 {
            return;
        }
        let bold = Look::default().add_modifier(Modifier::BOLD);
        line(to, 0, &self.head, bold);
        if area.height < 3 {
            return;
        }
        let between = Rect { y: 1, height: area.height - 2, ..area };
        match &self.body {
            Body::Table { rows: [], empty, .. } => line(to, 2, empty, Look::default()),
            Body::Table { columns, rows, chosen, .. } => {
                table(to, between, columns, rows, *chosen, has_colours);
            }
            Body::Text { lines, top, left } => {
                let last = lines.len().saturating_sub(usize::from(between.height));
                for (y, text) in (1..area.height - 1).zip(lines.iter().skip(top.unwrap_or(last))) {
                    let shown: String = harmless(text).chars().skip(*left).collect();
                    line(to, y, &shown, Look::default());
                }
            }
        }
        line(to, area.height - 1, &self.foot, look(self.foot_style, has_colours));
    }
}

fn line(to: &mut Buffer, y: u16, text: &str, look: Look) {
    if y < to.area.height {
        put(to, 0, y, text, to.area.width, look);
    }
}

/// Writes one line of text; one that does not fit ends in `…`.
fn put(to: &mut Buffer, x: u16, y: u16, text: &str, width: u16, look: Look) {
    let text = harmless(text).replace(['\n', '\t'], " ");
    if Span::raw(text.as_str()).width() <= usize::from(width) {
        to.set_stringn(x, y, &text, usize::from(width), look);
    } else if width > 0 {
        let (end, _) = to.set_stringn(x, y, &text, usize::from(width - 1), look);
        to.set_stringn(end, y, "…", 1, look);
    }
}

fn table(
    to: &mut Buffer,
    area: Rect,
    columns: &[Column],
    rows: &[Vec<(String, Style)>],
    chosen: usize,
    has_colours: bool,
) {
    let shown = usize::from(area.height.saturating_sub(1)).max(1);
    // Whole pages: moving on by one row changes two rows of the screen, not all.
    let top = chosen - chosen % shown;
    let natural: Vec<u16> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().map(|row| Span::raw(harmless(&row[at].0)).width());
            let widest =
                cells.max().unwrap_or(0).max(columns[at].heading.len()).max(columns[at].usual.into());
            u16::try_from(widest).unwrap_or(u16::MAX)
        })
        .collect();
    let widths = fit::widths(columns, &natural, area.width);
    let heading = Look::default().add_modifier(Modifier::BOLD);
    let mut x = 0;
    for (at, width) in &widths {
        put(to, x, area.y, columns[*at].heading, *width, heading);
        for (y, row) in (area.y + 1..area.y + area.height).zip(rows.iter().skip(top)) {
            let (text, style) = &row[*at];
            put(to, x, y, text, *width, look(*style, has_colours));
        }
        x += width + fit::GAP;
    }
    let marked = u16::try_from(chosen - top).unwrap_or(0);
    let marked = Rect { y: area.y + 1 + marked, height: 1, ..area };
    to.set_style(marked.intersection(area), Look::default().add_modifier(Modifier::REVERSED));
}

fn look(style: Style, has_colours: bool) -> Look {
    let plain = Look::default();
    match style {
        _ if !has_colours => plain,
        Style::Plain => plain,
        Style::Good => plain.fg(Color::Green),
        Style::Bad => plain.fg(Color::Red),
        Style::Active => plain.fg(Color::Cyan),
        Style::Faint => plain.add_modifier(Modifier::DIM),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::{Body, Column, Page};
    use crate::render::Style;

    fn lines(buffer: &Buffer) -> Vec<String> {
        let row = |y| {
            let mut x = 0;
            let mut text = String::new();
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                text.push_str(symbol);
                x += u16::try_from(ratatui::text::Span::raw(symbol).width()).unwrap_or(1).max(1);
            }
            text.trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect()
    }

    fn drawn(width: u16, height: u16, names: &[&str], chosen: usize) -> Vec<String> {
        let columns = [
            Column { heading: "ID", dispensable: 0, least: 2, usual: 0 },
            Column { heading: "NAME", dispensable: 0, least: 6, usual: 0 },
            Column { heading: "QUEUE", dispensable: 1, least: 5, usual: 0 },
        ];
        let cell = |text: &str| (text.to_owned(), Style::Plain);
        let rows: Vec<_> = (1..)
            .zip(names)
            .map(|(id, name)| vec![cell(&format!("{id}")), cell(name), cell("default")])
            .collect();
        let page = Page {
            head: "head".to_owned(),
            body: Body::Table { columns: &columns, rows: &rows, chosen, empty: "no jobs" },
            foot: "q quit".to_owned(),
            foot_style: Style::Plain,
        };
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        page.draw(&mut buffer, false);
        lines(&buffer)
    }

    #[test]
    fn a_narrow_terminal_leaves_columns_out_and_cuts_what_is_left() {
        let names = ["import_products", "a"];
        assert_eq!(
            drawn(40, 5, &names, 0),
            [
                "head",
                "ID  NAME             QUEUE",
                "1   import_products  default",
                "2   a                default",
                "q quit"
            ]
        );
        assert_eq!(drawn(14, 5, &names, 0), ["head", "ID  NAME", "1   import_pr…", "2   a", "q quit"]);
        assert_eq!(drawn(3, 4, &names, 0), ["he…", "ID", "1", "q …"]);
        for (width, height) in [(0, 0), (1, 1), (2, 2), (1, 5), (200, 3)] {
            drawn(width, height, &names, 1);
        }
    }

    #[test]
    fn a_wide_character_is_never_cut_in_half_and_moves_no_column() {
        let rows = drawn(24, 5, &["日本語の仕事です", "a\u{1b}[31m"], 0);
        assert_eq!(rows[2], "1   日本語の仕事…  defa…");
        assert_eq!(rows[3], "2   a␛[31m         defa…");
    }

    #[test]
    fn the_chosen_row_is_on_the_page_that_is_shown() {
        let names = ["a", "b", "c", "d", "e"];
        assert_eq!(drawn(20, 5, &names, 1)[2..4], ["1   a     default", "2   b     default"]);
        assert_eq!(drawn(20, 5, &names, 4)[2..4], ["5   e     default", ""]);
        assert_eq!(drawn(20, 5, &[], 0)[2], "no jobs");
    }
}
