import { PlatformError } from '@roost/base'
import type { App } from '@roost/core'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import type { Reader } from '../store/store.ts'
import { appOrThrow } from './apps.ts'
import type { Handlers } from './handler.ts'

const WHY = 'addresses are those of the hosts, and every app is reached under each of them'

/** Nobody assigns addresses here: every edge answers for every app. */
export function ipAssignmentHandlers(
  deps: Pick<Deps, 'store'>,
): Pick<Handlers, 'listIpAssignments' | 'createIpAssignment' | 'deleteIpAssignment'> {
  const { store } = deps
  return {
    listIpAssignments: ({ params }) =>
      store.read(async (reader) => ({
        ips: await shared(reader, await appOrThrow(reader, params.app)),
      })),

    createIpAssignment: ({ params, body }) =>
      store.read(async (reader) => {
        const app = await appOrThrow(reader, params.app)
        if (body.type && body.type !== 'shared_v4')
          throw new PlatformError('unsupported', `type: ${body.type} is not supported: ${WHY}`)
        const [first] = await shared(reader, app)
        if (first === undefined)
          throw new PlatformError(
            'unknown_region',
            'no host has joined yet, so there is no address',
          )
        return first
      }),

    deleteIpAssignment: ({ params }) =>
      store.read(async (reader) => {
        const ips = await shared(reader, await appOrThrow(reader, params.app))
        if (!ips.some(({ ip }) => ip === params.ip))
          throw new PlatformError('not_found', `address ${params.ip} not found`)
        throw new PlatformError('unsupported', `${params.ip} can not be given back: ${WHY}`)
      }),
  }
}

async function shared(reader: Reader, app: App) {
  const addresses = new Set((await listHosts(reader)).map((host) => host.publicAddress))
  return [...addresses].sort().map((ip) => ({
    ip,
    region: 'global',
    service_name: '',
    shared: true,
    created_at: new Date(app.createdAt).toISOString(),
  }))
}
