"""Lost and damaged files of a results folder: how they are found, restored and made again."""
