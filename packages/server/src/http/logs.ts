import { PlatformError } from '@roost/base'
import type { AppName, MachineId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { accessLogs } from '../log/access-logs.ts'
import { appLogs } from '../log/app-logs.ts'
import { createLogHub } from '../log/log-hub.ts'
import { getApp } from '../store/apps.ts'
import { getMachine } from '../store/machines.ts'
import type { Handlers } from './handler.ts'

/** To requests; each takes a connection to every edge. */
const LISTENERS_MAX = 50

export function logHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'agent' | 'edge'>,
): Pick<Handlers, 'appLogs' | 'appAccessLogs'> {
  const hub = createLogHub(deps)
  const listening = new Set<object>()
  const refuseUnknown = (app: AppName, machine: MachineId | undefined) =>
    deps.store.read(async (reader) => {
      if ((await getApp(reader, app)) === null)
        throw new PlatformError('not_found', 'app not found')
      if (machine === undefined) return
      const found = await getMachine(reader, machine)
      if (found === null || found.appDestroyed || found.assignment.app !== app)
        throw new PlatformError('not_found', `${app} has no machine ${machine}`)
    })
  return {
    async appLogs({ params, query }) {
      const app = params.app as AppName
      const machine = query.machine as MachineId | undefined
      await refuseUnknown(app, machine)
      const request = {
        app,
        machine,
        container: query.container,
        lines: query.lines,
        follow: query.follow === 'true',
        region: query.region,
        since: query.since,
      }
      return (signal) => appLogs({ ...deps, hub }, request, signal)
    },

    async appAccessLogs({ params, query }) {
      const app = params.app as AppName
      const { region, machine } = query
      await refuseUnknown(app, machine as MachineId | undefined)
      if (listening.size >= LISTENERS_MAX)
        throw new PlatformError('too_many', `${LISTENERS_MAX} listen to requests already`)
      const request = { app, region, machine, query: query.query === 'true' }
      return async function* (signal) {
        const one = {}
        listening.add(one)
        try {
          yield* accessLogs(deps, request, signal)
        } finally {
          listening.delete(one)
        }
      }
    },
  }
}
