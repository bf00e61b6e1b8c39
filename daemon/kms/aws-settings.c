/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-settings.h"

#include <errno.h>

/* Where a file is. *ret_path is NULL when it is nowhere. Return: 0 or -ENOMEM. */
static int file_path(char **ret_path, bool *ret_wanted, const char *configured, const struct aws_environment *e, const char *name,
                     const char *at_home)
{
        const char *named = aws_environment_text(e, name), *home = aws_environment_text(e, "HOME");
        int r = 0;

        *ret_path = NULL;
        *ret_wanted = configured != NULL;
        if (configured)
                r = asprintf(ret_path, "%s", configured);
        else if (named && strncmp(named, "~/", 2) == 0 && home)
                r = asprintf(ret_path, "%s%s", home, named + 1);
        else if (named)
                r = asprintf(ret_path, "%s", named);
        else if (home)
                r = asprintf(ret_path, "%s/%s", home, at_home);
        if (r < 0)
                *ret_path = NULL;
        return r < 0 ? -ENOMEM : 0;
}

int aws_settings_profiles(struct aws_profiles **ret_profiles, const struct aws_settings *settings, const char *keep, struct sentence *ret_why)
{
        const struct {
                const char *configured, *name, *at_home;
                enum aws_profiles_file file;
        } files[] = {
                { settings->config->aws_config_file, "AWS_CONFIG_FILE", ".aws/config", AWS_PROFILES_CONFIG },
                { settings->config->aws_credentials_file, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", AWS_PROFILES_CREDENTIALS },
        };
        _cleanup_(aws_profiles_freep) struct aws_profiles *profiles = NULL;
        int r = aws_profiles_new(&profiles);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = NULL;
                bool wanted;

                r = file_path(&path, &wanted, files[i].configured, settings->environment, files[i].name, files[i].at_home);
                if (r == 0 && path) {
                        r = aws_profiles_read(profiles, path, files[i].file, keep, ret_why);
                        if (r == -ENOENT && !wanted)
                                r = 0;
                        else if (r < 0)
                                return r;
                }
        }
        if (r < 0) {
                sentence_set(ret_why, "the AWS configuration cannot be read: out of memory");
                return r;
        }
        *ret_profiles = TAKE_PTR(profiles);
        return 0;
}
