import { type AppName, decide } from '@roost/core'
import type { Deps } from '../deps.ts'
import type { Caller } from '../http/handler.ts'
import { type ImageResolver, imageNotPushed, parseReference } from '../image-resolver.ts'
import { grantedAccess } from './registry-scope.ts'

/**
 * The images that a caller may have machines of `app` run: the server and the agents pull with tokens of their own, so whose
 * an image is must be looked at where it is asked for. Another app's is there only for who could pull it by `docker login`.
 */
export function imagesFor(
  { images, installation, clock }: Pick<Deps, 'images' | 'installation' | 'clock'>,
  app: string,
  caller: Caller,
): Pick<ImageResolver, 'resolve'> {
  const may = (action: 'registry:pull' | 'registry:push', of: AppName | null) =>
    decide(caller.policy, { action, app: of }, clock.now()).kind === 'allowed'
  return {
    async resolve(text, signal) {
      const reference = parseReference(text)
      const { registry, repository } = reference
      const asked = [{ repository, actions: ['pull'] as const }]
      if (
        registry === installation.registry &&
        repository !== app &&
        grantedAccess(asked, { kind: 'token', may }).length === 0
      )
        throw imageNotPushed(reference)
      return images.resolve(text, signal)
    },
  }
}
