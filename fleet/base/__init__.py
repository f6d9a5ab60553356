"""What every package of `fleet` needs: errors, atomic file writes, text tables, file transport."""
