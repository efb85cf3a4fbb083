//! The shapes of states: each is told by its form as well as by its colour and its word.

use maud::{Markup, html};

use crate::job::State;

/// A state's shape, drawn in the colour of the text around it.
pub(super) fn of(state: State) -> Markup {
    html! {
        svg.icon viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false" {
            @match state {
                State::New => { circle cx="8" cy="8" r="6" {} path d="M8 5v6M5 8h6" {} },
                State::Waiting => { path d="M4.5 2.5h7M4.5 13.5h7M5.5 2.5c0 3 2.5 4 2.5 5.5s-2.5 2.5-2.5 5.5M10.5 2.5c0 3-2.5 4-2.5 5.5s2.5 2.5 2.5 5.5" {} },
                State::Delayed => { circle cx="8" cy="8" r="6" {} path d="M8 4.8V8l2.3 1.6" {} },
                State::Pending => { circle cx="8" cy="8" r="6" {} circle.solid cx="8" cy="8" r="1.6" {} },
                State::Running => { path.track d="M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2" {} path.spin d="M8 2a6 6 0 0 1 6 6" {} },
                State::Success => { circle.solid cx="8" cy="8" r="7" {} path.over d="M4.8 8.3l2.2 2.2 4.2-4.8" {} },
                State::Failed => { rect.solid x="1.5" y="1.5" width="13" height="13" rx="3" {} path.over d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2" {} },
                State::Cancelled => { circle cx="8" cy="8" r="6" {} path d="M3.9 12.1l8.2-8.2" {} },
                State::Stale => { path.solid d="M8 1.2l7 12.6H1z" {} path.over d="M8 6v3.6M8 11.4v.4" {} },
            }
        }
    }
}
