"""The stem store: stems kept on disk under the identity of their separator and mixture."""
