"""New and running seasons: what a source holds, what has arrived, what enters params.yaml, what is due on a day."""
