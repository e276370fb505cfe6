import {
  ApiError,
  ERRORS,
  type ErrorCode,
  type RouteName,
  routes,
  VERSION,
  VERSION_HEADER,
} from '@roost/api'
import { type MessageSocket, openMessageSocket } from '@roost/base'
import type { CliContext } from '../cli-context.ts'
import { chosenServer, ServerUnreached } from './connect.ts'
import { allAuthorities, isOfUnknownIssuer } from './known-authorities.ts'

type SocketRoute = {
  [Name in RouteName]: (typeof routes)[Name]['reply'] extends 'socket' ? Name : never
}[RouteName]

/** A WebSocket of the route table. Refusals are ApiErrors, and what never reached the server is ServerUnreached, as of any call. */
export async function openSocket(
  context: Pick<CliContext, 'env'>,
  route: SocketRoute,
  params: Readonly<Record<string, string>>,
): Promise<MessageSocket> {
  const server = chosenServer(context)
  const path = routes[route].path.replace(/:(\w+)/g, (_, key: string) =>
    encodeURIComponent(params[key] ?? ''),
  )
  const { ca } = server
  const open = (ca?: string | string[]) =>
    openMessageSocket(`${server.url}${path}`, {
      ca,
      headers: {
        authorization: `Bearer ${server.token}`,
        'user-agent': `roost-cli/${VERSION}`,
        [VERSION_HEADER]: VERSION,
      },
    })
  try {
    if (ca === null) return await open()
    // As for requests: see `connectorFor`.
    return await open(ca).catch((error: unknown) => {
      if (!isOfUnknownIssuer(error)) throw error
      return open(allAuthorities(ca))
    })
  } catch (error) {
    throw asKnown(error, route, server)
  }
}

function asKnown(
  error: unknown,
  route: RouteName,
  server: { readonly url: string; readonly from: string },
): unknown {
  if (!(error instanceof Error)) return error
  if (error.name === 'SocketRefused') {
    const { status, code, message, requestId } = error as Error & {
      status: number
      code: string
      requestId: string | null
    }
    return apiErrorOf(route, code, message, status, requestId)
  }
  const from = server.from === 'ROOST_API_URL' ? server.from : `the context ${server.from}`
  return new ServerUnreached(server.url, error.cause ?? error, { from })
}

/** What a session was told, as the same words of a reply would be. */
export function apiErrorOf(
  route: RouteName,
  said: string,
  message: string,
  status?: number,
  requestId: string | null = null,
): ApiError {
  const code = (Object.hasOwn(ERRORS, said) ? said : 'internal') as ErrorCode
  return new ApiError(route, { status: status ?? ERRORS[code].status, code, message, requestId })
}
