"""Labelled data sets as they are downloaded: layouts, audit, class statistics."""
