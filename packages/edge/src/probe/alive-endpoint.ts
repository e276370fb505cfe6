import { type EdgeAliveReply, ERRORS } from '@roost/api'
import {
  createHttpListener,
  type HttpListener,
  type Logger,
  PlatformError,
  peerOf,
} from '@roost/base'

/** Answers the probes of other edges. Nobody else is told anything. */
export function createAliveEndpoint(options: {
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
  readonly say: () => EdgeAliveReply
  readonly log: Logger
}): HttpListener {
  const { ca, certificate, key } = options.tls
  const listener = createHttpListener({
    log: options.log,
    tls: { certificate, key, clientCa: ca },
    errors: ERRORS,
  })
  listener.app.get('/edge/v1/alive', async (request) => {
    const peer = peerOf(request)
    if (!peer?.startsWith('roost://edge/') && peer !== 'roost://server')
      throw new PlatformError('forbidden', 'this is for edges alone')
    return options.say()
  })
  return listener
}
