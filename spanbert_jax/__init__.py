"""SpanBERT in JAX: pre-train masked-language encoders on spans and put them to work."""
