"""The networks that can be trained: P copies of one shape side by side, and their first and second derivatives."""
