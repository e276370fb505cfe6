import { PlatformError } from '@roost/base'
import type { AppName, MachineId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { appLogs } from '../log/app-logs.ts'
import { createLogHub } from '../log/log-hub.ts'
import { getApp } from '../store/apps.ts'
import { getMachine } from '../store/machines.ts'
import type { Handlers } from './handler.ts'

export function logHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'agent'>,
): Pick<Handlers, 'appLogs'> {
  const hub = createLogHub(deps)
  return {
    async appLogs({ params, query }) {
      const app = params.app as AppName
      const machine = query.machine as MachineId | undefined
      await deps.store.read(async (reader) => {
        if ((await getApp(reader, app)) === null)
          throw new PlatformError('not_found', 'app not found')
        if (machine === undefined) return
        const found = await getMachine(reader, machine)
        if (found === null || found.appDestroyed || found.assignment.app !== app)
          throw new PlatformError('not_found', `${app} has no machine ${machine}`)
      })
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
  }
}
