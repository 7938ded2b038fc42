//! Recordings: written whole or not at all, read with every claim checked.
