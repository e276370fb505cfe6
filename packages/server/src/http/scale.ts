import type { AppName, Scale } from '@roost/core'
import type { Deps } from '../deps.ts'
import type { Handlers } from './handler.ts'
import { submitRelease } from './releases.ts'

/** Time for the machines of a release that nobody named a time for. */
export const WAIT_TIMEOUT_MS = 300_000

export function scaleHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'ids'>,
): Pick<Handlers, 'setScale'> {
  return {
    setScale: ({ params, body, caller }) =>
      submitRelease(
        deps,
        {
          app: params.app as AppName,
          cause: 'scale',
          ask: { scale: body.scale as Scale, regions: [], ha: true },
          what: null,
          waitTimeoutMs: WAIT_TIMEOUT_MS,
          createdBy: caller.name,
        },
        body.plan_only,
      ),
  }
}
