import type { setScaleBody } from '@roost/api'
import { PlatformError } from '@roost/base'
import type { AppName, MachineGuest, ReleaseAsk, Scale } from '@roost/core'
import type { z } from 'zod'
import type { Deps } from '../deps.ts'
import type { Handlers } from './handler.ts'
import { submitRelease } from './releases.ts'

/** Time for the machines of a release that nobody named a time for. */
export const WAIT_TIMEOUT_MS = 300_000

export function scaleHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'ids'>,
): Pick<Handlers, 'setScale'> {
  return {
    setScale: async ({ params, body, caller }) =>
      submitRelease(
        deps,
        {
          app: params.app as AppName,
          cause: 'scale',
          ask: askOf(body),
          what: null,
          waitTimeoutMs: WAIT_TIMEOUT_MS,
          createdBy: caller.name,
        },
        body.plan_only,
      ),
  }
}

function askOf({ scale, group_scale, guests }: z.output<typeof setScaleBody>): ReleaseAsk {
  if (scale === undefined && group_scale === undefined && guests === undefined)
    throw new PlatformError(
      'invalid',
      'say how many machines (scale, group_scale) or of which size',
    )
  return {
    scale: (scale as Scale | undefined) ?? null,
    regions: [],
    ha: true,
    ...(group_scale === undefined ? {} : { groups: group_scale as Record<string, Scale> }),
    ...(guests === undefined ? {} : { guests: guests as Record<string, Partial<MachineGuest>> }),
  }
}
