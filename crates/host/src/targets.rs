//! From the words of a user to open network namespaces.
