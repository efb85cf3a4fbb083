//! The style, the script and the icon, built into the program. An address names the version of what it leads to.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::job::fnv1a;

pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

pub(super) const STYLE: Asset =
    Asset { name: "duly.css", kind: "text/css; charset=utf-8", text: include_str!("assets/duly.css") };
pub(super) const SCRIPT: Asset =
    Asset { name: "duly.js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/duly.js") };
pub(super) const ICON: Asset =
    Asset { name: "icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") };

impl Asset {
    /// Where it is, with what its text comes to.
    pub(super) fn address(&self) -> String {
        format!("/assets/{}?{:016x}", self.name, fnv1a(self.text.as_bytes()))
    }
}

pub(super) async fn serve(Path(name): Path<String>) -> Result<Response, Problem> {
    let asset = [STYLE, SCRIPT, ICON].into_iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Problem::not_found("There is no such file."))?;
    let mut response = asset.text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
