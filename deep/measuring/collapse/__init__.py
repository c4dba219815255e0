"""Whether features that somebody has are collapsed, and how far: files in, metrics beside white noise's, a verdict."""
