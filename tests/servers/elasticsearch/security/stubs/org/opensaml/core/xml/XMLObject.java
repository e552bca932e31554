package org.opensaml.core.xml;

/** Named by x-pack-security, never called without SAML. */
public interface XMLObject {}
