//! One namespace's whole state in one go.
