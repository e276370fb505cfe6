import { agentSignalBody } from '@roost/api'
import { type HttpListener, PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { Runtime } from '../runtime.ts'

/** `POST /agent/v1/machines/:id/signal`: to a machine of this host that runs. */
export function registerSignalRoute(
  app: HttpListener['app'],
  runtime: Pick<Runtime, 'signal'>,
): void {
  app.post<{ Params: { id: string } }>('/agent/v1/machines/:id/signal', async (request) => {
    const body = agentSignalBody.safeParse(request.body)
    if (!body.success)
      throw new PlatformError('invalid', `signal: ${body.error.issues[0]?.message}`)
    await runtime.signal(request.params.id as MachineId, body.data.signal)
    return { ok: true }
  })
}
