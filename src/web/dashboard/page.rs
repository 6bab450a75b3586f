//! The page as one text that needs nothing else, and the policy under which a browser runs exactly what is in it.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use ring::digest::{SHA256, digest};

const PAGE: &str = include_str!("page.html");
/// uPlot draws the plots; `uplot/fetch` says where it comes from.
const STYLES: [&str; 2] = [include_str!("uplot/uPlot.min.css"), include_str!("style.css")];
const SCRIPTS: [&str; 4] = [
    include_str!("uplot/uPlot.iife.min.js"),
    include_str!("words.js"),
    include_str!("plots.js"),
    include_str!("page.js"),
];

#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: Bytes,
    /// Value of `Content-Security-Policy`.
    pub(super) policy: HeaderValue,
}

impl Page {
    pub(super) fn assemble() -> Page {
        let (style, script) = (STYLES.concat(), SCRIPTS.concat());
        let text = PAGE.replacen("{style}", &style, 1).replacen("{script}", &script, 1);
        // Nothing but these two, and no request but to where the page comes from.
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source(&script),
            source(&style)
        );
        let policy = HeaderValue::from_str(&policy).expect("base64 and words");
        Page { text: text.into(), policy }
    }
}

/// A text, as a policy names it.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is shipped is what was published: a change by hand would be lost with the next version.
    #[test]
    fn uplot_is_as_it_was_fetched() {
        let files: [(&str, &[u8]); 3] = [
            ("uPlot.iife.min.js", include_bytes!("uplot/uPlot.iife.min.js")),
            ("uPlot.min.css", include_bytes!("uplot/uPlot.min.css")),
            ("LICENSE", include_bytes!("uplot/LICENSE")),
        ];
        let sums = include_str!("uplot/SHA256SUMS");
        assert_eq!(sums.lines().count(), files.len());
        for (name, bytes) in files {
            let hash: String =
                digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(sums.contains(&format!("{hash}  {name}\n")), "{name} has hash {hash}");
        }
    }

    /// Goal: the page is whole, ends no element early, and fetches nothing.
    #[test]
    fn the_page_needs_nothing_else() {
        let page = Page::assemble();
        let text = std::str::from_utf8(&page.text).expect("text");
        for (element, times) in [("<style>", 1), ("</style>", 1), ("<script>", 1), ("</script>", 1)]
        {
            assert_eq!(text.matches(element).count(), times, "{element}");
        }
        assert!(!text.contains("{style}") && !text.contains("{script}"));
        let own = [PAGE, STYLES[1], SCRIPTS[1], SCRIPTS[2], SCRIPTS[3]].concat();
        for fetched in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!own.contains(fetched), "the page fetches something: {fetched}");
        }
        let is_forbidden =
            |word: &str| word.starts_with("style=") || word.starts_with("on") && word.contains('=');
        assert!(!PAGE.split_whitespace().any(is_forbidden), "the policy forbids it");
        let policy = page.policy.to_str().expect("text");
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    }
}
