import { PlatformError } from '@roost/base'
import { type ImageResolver, parseReference } from '../image-resolver.ts'
import { LOOKUP_MS, PUSH_MS, type PushActivity } from './push-activity.ts'
import type { RegistryTokens } from './registry-tokens.ts'

/** Whoever is given a token for a push may use it from now on. */
export function notePushes(tokens: RegistryTokens, activity: PushActivity): RegistryTokens {
  return {
    ...tokens,
    issue: (request) => {
      for (const { repository, actions } of request.access)
        if (actions.some((action) => action !== 'pull'))
          if (!request.subject.startsWith('agent/') || !activity.isBuilding(repository))
            // Of a build it is known when it ends.
            activity.touch(repository, PUSH_MS)
      return tokens.issue(request)
    },
  }
}

/** Whoever looks an image up is about to use it. Also what the resolver remembers counts. */
export function noteLookups(
  images: ImageResolver,
  activity: PushActivity,
  registryName: string,
): ImageResolver {
  const touch = (text: string) => {
    try {
      const { registry, repository } = parseReference(text)
      activity.touch(
        registry === registryName ? repository : `${registry}/${repository}`,
        LOOKUP_MS,
      )
    } catch (error) {
      // The resolver says what is wrong with it.
      if (!(error instanceof PlatformError)) throw error
    }
  }
  return {
    ...images,
    resolve: async (text, signal) => {
      touch(text)
      const found = await images.resolve(text, signal)
      touch(text)
      return found
    },
  }
}
