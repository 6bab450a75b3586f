//! Who works in a demo: its own workers, or programs in other languages that do the same.
//!
//! Here they find HOTPAIR_REGION and HOTPAIR_QUEUE in their environment, like every worker. On the host without a region they find
//! HOTPAIR_PKI and HOTPAIR_NODES instead of the region.

/// One worker of each side, or of the host without a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// `hotpair demo-worker`.
    Own,
    /// Another program, with its arguments.
    Foreign(Vec<String>),
}

impl Hand {
    /// Reads `own`, or a command as a JSON array.
    pub(super) fn parse(written: &str) -> Result<Hand, String> {
        if written == "own" {
            return Ok(Hand::Own);
        }
        match serde_json::from_str::<Vec<String>>(written) {
            Ok(command) if !command.is_empty() => Ok(Hand::Foreign(command)),
            Ok(_) => Err("the command is empty".to_owned()),
            Err(error) => Err(format!("neither `own` nor a JSON array of texts: {error}")),
        }
    }

    /// Those of a demo that was told of none.
    pub(super) fn usual() -> Vec<Hand> {
        vec![Hand::Own; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_is_our_own_or_a_command() {
        assert_eq!(Hand::parse("own"), Ok(Hand::Own));
        let foreign = Hand::Foreign(vec!["python3".to_owned(), "a b.py".to_owned()]);
        assert_eq!(Hand::parse(r#"["python3", "a b.py"]"#), Ok(foreign));
        assert!(Hand::parse("[]").is_err());
        assert!(Hand::parse("python3").is_err());
    }
}
