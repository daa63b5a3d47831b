from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("deploy", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="service",
            name="lines",
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.AddField(
            model_name="service",
            name="breaks",
            field=models.BooleanField(default=False),
        ),
    ]
