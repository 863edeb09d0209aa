"""Labelled data sets as they are downloaded: folder layouts, label audit, class statistics."""
