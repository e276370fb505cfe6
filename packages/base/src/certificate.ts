import { X509Certificate } from 'node:crypto'

/** When a certificate (PEM) ends, and how long it lives in all. Throws where there is none in the text. */
export function lifeOf(pem: string): { readonly expiresAt: number; readonly lifeMs: number } {
  const { validFrom, validTo } = new X509Certificate(pem)
  const expiresAt = Date.parse(validTo)
  return { expiresAt, lifeMs: expiresAt - Date.parse(validFrom) }
}
