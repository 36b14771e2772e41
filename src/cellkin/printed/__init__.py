"""Can these printed numbers co-exist? Tables of other people's results, checked by counting."""
