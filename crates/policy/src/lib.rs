//! What a policy document says, and the pure function that decides by it.
