//! Which columns of a table fit into a width, and how wide each is.

use super::Column;

/// Blanks between columns.
pub(super) const GAP: u16 = 2;

/// The columns that are shown, in their order, and their widths. `natural` is how wide each would like to be.
pub(super) fn widths(columns: &[Column], natural: &[u16], width: u16) -> Vec<(usize, u16)> {
    let least = |at: usize| natural[at].min(columns[at].least);
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let needed = |shown: &[usize]| {
        shown.iter().fold(0_u16, |sum, at| sum.saturating_add(least(*at) + GAP)).saturating_sub(GAP)
    };
    while needed(&shown) > width {
        let Some(at) = shown
            .iter()
            .copied()
            .filter(|at| columns[*at].dispensable > 0)
            .max_by_key(|at| columns[*at].dispensable)
        else {
            break;
        };
        shown.retain(|other| *other != at);
    }
    let mut widths: Vec<(usize, u16)> = shown.iter().map(|at| (*at, least(*at))).collect();
    let mut spare = width.saturating_sub(needed(&shown));
    // What matters most grows first.
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|index| columns[widths[*index].0].dispensable);
    for index in order {
        let (at, is) = widths[index];
        let more = natural[at].saturating_sub(is).min(spare);
        widths[index].1 += more;
        spare -= more;
    }
    // In a terminal that is narrower than what always is shown, the last of it is cut.
    let mut left = width;
    for (_, is) in &mut widths {
        *is = (*is).min(left);
        left = left.saturating_sub(*is + GAP);
    }
    widths.retain(|(_, is)| *is > 0);
    widths
}
