// Loaded when the first request is made and not before: help and complaints about the command line need none of it.
import { createSecureContext } from 'node:tls'
import { buildConnector } from 'undici'
import { allAuthorities, isOfUnknownIssuer } from './known-authorities.ts'

export { Agent, request } from 'undici'

/**
 * Connects to who has a certificate of the installation's authority and, only if it has one of somebody else, once more to who
 * has one of an authority that the system knows. Nobody is sent anything before that is known.
 */
export function connectorFor(ca: string | null, timeout: number): buildConnector.connector {
  if (ca === null) return buildConnector({ timeout })
  const toOwn = buildConnector({ timeout, ca })
  let toAll: buildConnector.connector | null = null
  return (options, callback) => {
    if (toAll !== null) return toAll(options, callback)
    toOwn(options, (...[error, socket]) => {
      if (error === null) return callback(null, socket)
      if (!isOfUnknownIssuer(error)) return callback(error, null)
      toAll ??= buildConnector({
        timeout,
        secureContext: createSecureContext({ ca: allAuthorities(ca) }),
      })
      toAll(options, callback)
    })
  }
}
