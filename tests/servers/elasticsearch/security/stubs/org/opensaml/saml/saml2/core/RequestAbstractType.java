package org.opensaml.saml.saml2.core;

/** Named by x-pack-security, never called without SAML. */
public interface RequestAbstractType {}
